"""Log lines for plugins in Python that gave no usable answer: one a second for each plugin and reason, however many requests it was."""

import asyncio
import logging
from typing import Any, Protocol

from warmroute.logging import fields

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class FailureSource(Protocol):
    """The part of `_core.Engine` that is read."""

    def plugin_failures(self) -> list[dict[str, Any]]:
        """Failures since the start, by plugin and reason."""


class PluginLog:
    """Writes what is new once a second."""

    def __init__(self, engine: FailureSource) -> None:
        """Nothing is read before `run` or `look`."""
        self._engine = engine
        self._told: dict[tuple[str, str, str], int] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Write what has come since the last look."""
        for failure in self._engine.plugin_failures():
            key = (failure["plugin_type"], failure["plugin_name"], failure["reason"])
            new = failure["count"] - self._told.get(key, 0)
            if not new:
                continue
            self._told[key] = failure["count"]
            error, _, trace = failure["last"].partition("\n")
            details: dict[str, Any] = {
                "plugin": failure["plugin_name"],
                "type": failure["plugin_type"],
                "reason": failure["reason"],
                "requests": new,
                "error": error,
            }
            if trace:
                details["trace"] = trace.splitlines()
            logger.warning("plugin skipped", extra=fields(**details))
