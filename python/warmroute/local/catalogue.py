"""Which models the endpoints serve, asked of each."""

import asyncio
from collections.abc import Mapping, Sequence

from warmroute.local import probe
from warmroute.local.probe import Address, ProbeError

#: Endpoints that are asked at the start, side by side, and the seconds that each has to answer: nobody waits for a large or a dead pool.
_ASKED = 16
_TIMEOUT = 0.5
_OK = 200


def names(document: object) -> tuple[str, ...]:
    """Model names of an answer to `GET /v1/models`; none when it is something else."""
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return ()
    return tuple(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)


async def ask(addresses: Sequence[Address]) -> dict[str, tuple[str, ...]]:
    """Models of the first endpoints that answer, by address; one that does not is left out."""
    answers = await asyncio.gather(*(_ask(address) for address in addresses[:_ASKED]))
    return {str(address): served for address, served in zip(addresses, answers, strict=False) if served}


async def _ask(address: Address) -> tuple[str, ...]:
    try:
        answer = await probe.get(address, "/v1/models", _TIMEOUT)
        return names(answer.json()) if answer.status == _OK else ()
    except ProbeError:
        return ()


def describe_difference(found: Mapping[str, Sequence[str]]) -> str:
    """What to tell when endpoints serve different models; empty when they do not."""
    if len({frozenset(served) for served in found.values()}) < 2:  # noqa: PLR2004 -- two sets make a difference
        return ""
    listed = "; ".join(f"{address}: {', '.join(served)}" for address, served in found.items())
    return f"The endpoints serve different models, but a request goes to any of them: 404 is likely. One gateway for each model. Found: {listed}."
