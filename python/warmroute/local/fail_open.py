"""Requests that Envoy sent without the picker: it fails open, so nobody else would notice."""

import asyncio

from warmroute.local import probe
from warmroute.local.probe import Address, ProbeError
from warmroute.local.report import Reporter

_COUNTER = "http.gateway.ext_proc.failure_mode_allowed"
#: Seconds between two looks.
_INTERVAL = 5.0


async def count(admin: Address) -> int:
    """Requests that passed without the picker's choice since Envoy started.

    Raises:
        ProbeError: the admin page does not answer.

    """
    answer = await probe.get(admin, f"/stats?filter=^{_COUNTER}$")
    text = answer.body.decode(errors="replace").partition(": ")[2].strip()
    # The counter appears with the first connection.
    return int(text) if text.isdigit() else 0


async def watch(admin: Address, reporter: Reporter) -> None:
    """Tell of such requests until cancelled."""
    before: int | None = None
    while True:
        try:
            now = await count(admin)
        except ProbeError:
            # An Envoy that has gone is told by the supervisor.
            await asyncio.sleep(_INTERVAL)
            continue
        if before is not None and now > before:
            reporter.event(
                "without-picker",
                f"{now - before} requests passed without the picker's choice: it was down, late, or in error.",
                requests=now - before,
            )
        before = now
        await asyncio.sleep(_INTERVAL)
