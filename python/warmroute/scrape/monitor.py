"""Watches the scraper: what it cannot read is told in the log once per change, and counted without ever going back."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from warmroute.logging import fields
from warmroute.metrics.families import PREFIX, Family, Sample

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
SOURCE_TYPE = "metrics-data-source"


class ScrapeMonitor:
    """Reads the scraper's states once a second."""

    def __init__(self, states: Callable[[], list[dict[str, Any]]]) -> None:
        """`states`: `_core.Scraper.states`."""
        self._states = states
        self._failures: dict[str, int] = {}
        self._total = 0
        self._failing: set[str] = set()
        self._unfiltered: set[str] = set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Log what has changed and count new failures."""
        states = [state for state in self._states() if state["scrapes"] or state["failures"]]
        failing = {state["address"]: state["error"] for state in states if not state["ok"]}
        for address in failing.keys() - self._failing:
            logger.warning("metrics page cannot be read", extra=fields(endpoint=address, error=failing[address]))
        addresses = {state["address"] for state in states}
        for address in (self._failing - failing.keys()) & addresses:
            logger.info("metrics page is read again", extra=fields(endpoint=address))
        self._failing = set(failing)
        unfiltered = {state["address"] for state in states if state["ok"] and not state["filtered"]}
        for address in unfiltered - self._unfiltered:
            logger.info("model server does not filter its metrics page; reading all of it", extra=fields(endpoint=address))
        self._unfiltered = unfiltered
        self._count(states)

    def _count(self, states: list[dict[str, Any]]) -> None:
        # An endpoint that goes takes its count with it, and one that comes back starts at zero: only increases are added.
        for state in states:
            before = self._failures.get(state["address"], 0)
            now = int(state["failures"])
            self._total += now - before if now >= before else now
        self._failures = {state["address"]: int(state["failures"]) for state in states}

    def families(self) -> list[Family]:
        """The counter of pages that could not be read."""
        samples = [Sample((SOURCE_TYPE,), float(self._total))]
        text = "[ALPHA] The number of metrics pages that could not be fetched or read."
        return [Family(f"{PREFIX}datalayer_poll_errors_total", "counter", text, ("source_type",), samples)]
