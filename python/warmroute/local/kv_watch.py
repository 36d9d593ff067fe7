"""Model servers that should publish KV events and do not: a wrong port looks like an idle server otherwise."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from warmroute.local import probe
from warmroute.local.probe import Address, ProbeError
from warmroute.local.report import Reporter

# Seconds between two looks at what the picker says.
_INTERVAL = 1.0
# A server that has just come or gone is told of by others; silence counts after so many seconds.
_PATIENCE = 10.0
_SHOWN = 4


async def watch(metrics: Address, reporter: Reporter) -> None:
    """Tell of publishers at whose address nobody answers, and when somebody does, until cancelled."""
    silence = Silence()
    while True:
        try:
            rows = (await probe.get(metrics, "/debug/kv-events")).json()
        except ProbeError:
            # A picker that has gone is told by the supervisor.
            rows = []
        silence.look(rows, reporter)
        await asyncio.sleep(_INTERVAL)


class Silence:
    """Which publishers are not connected, and since when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._since: dict[str, float] = {}
        self._told: set[str] = set()

    def look(self, rows: Iterable[dict[str, Any]], reporter: Reporter) -> None:
        """Tell what is new in the rows of `/debug/kv-events`."""
        now = self._clock()
        connected = {row["address"]: bool(row["connected"]) for row in rows if row["address"] is not None}
        self._since = {address: self._since.get(address, now) for address, is_connected in connected.items() if not is_connected}
        silent = [address for address, since in self._since.items() if now - since >= _PATIENCE and address not in self._told]
        if silent:
            text = f"No KV events: nobody answers at {_shortened(silent)}. What was sent to these model servers counts for them."
            reporter.event("kv-events-silent", text, addresses=silent)
        heard = [address for address in self._told if connected.get(address)]
        if heard:
            reporter.event("kv-events-heard", f"KV events come from {_shortened(heard)} now.", addresses=heard)
        self._told = {address for address in (*self._told, *silent) if address in self._since}


def _shortened(addresses: list[str]) -> str:
    shown = ", ".join(sorted(addresses)[:_SHOWN])
    return shown if len(addresses) <= _SHOWN else f"{shown} and {len(addresses) - _SHOWN} more"
