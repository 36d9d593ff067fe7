"""The picker's configuration file changes: what the picker makes of it is told."""

import asyncio
from typing import Any

from warmroute.local import probe
from warmroute.local.probe import Address, ProbeError
from warmroute.local.report import Reporter

#: Seconds between two looks at what the picker says.
_INTERVAL = 1.0
_SHOWN_CHANGES = 10


async def watch(metrics: Address, reporter: Reporter) -> None:
    """Tell of each reload of the picker's configuration until cancelled; of several between two looks, the last."""
    told: Any = None
    while True:
        try:
            last = (await probe.get(metrics, "/debug/config")).json()["last"]
        except ProbeError:
            # A picker that has gone is told by the supervisor, and one that comes back reads the file anew.
            last = None
        if last is not None and last != told:
            tell(last, reporter)
            told = last
        await asyncio.sleep(_INTERVAL)


def tell(last: dict[str, Any], reporter: Reporter) -> None:
    """One event for what came of a reload."""
    if last["outcome"] == "refused":
        text = "The configuration cannot be used; the one before goes on:\n" + "\n".join(last["problems"])
        reporter.event("config-refused", text, problems=last["problems"])
    elif last["outcome"] == "applied":
        changes = last["changes"]
        lines = [f"{change['path']}: {change['before']} → {change['after']}" for change in changes[:_SHOWN_CHANGES]]
        more = [f"and {len(changes) - _SHOWN_CHANGES} more"] if len(changes) > _SHOWN_CHANGES else []
        reporter.event("config-changed", "\n".join(("The configuration changed:", *lines, *more)), changes=changes)
    else:
        reporter.event("config-unchanged", "The configuration was read again: nothing changes.")
