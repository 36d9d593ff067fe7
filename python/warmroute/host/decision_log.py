"""One log line a request, for debugging: followed from the engine's kept decisions, off the way of the requests.

The hosts write nothing per request: a line costs more than a decision. With `--explain` the engine keeps its last decisions anyway, and at
verbosity 4 and above they are logged here as they appear.
"""

import asyncio
import logging
from typing import Any, Protocol

from warmroute.logging import DEBUG, fields, log_at

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25


class DecisionSource(Protocol):
    """The part of `_core.Engine` that is read."""

    def decisions(self, limit: int = 20) -> list[dict[str, Any]]:
        """The last decisions, newest first."""


class DecisionLog:
    """Logs each decision once; tells how many were lost when more came than the engine keeps."""

    def __init__(self, engine: DecisionSource, kept: int) -> None:
        """`kept`: how many decisions the engine keeps."""
        self._engine = engine
        self._kept = kept
        self._last: tuple[str, str] | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Log what is new since the last look, oldest first."""
        fresh = []
        for decision in self._engine.decisions(self._kept):
            identity = str(decision["request_id"]), str(decision["destination"])
            if identity == self._last:
                break
            fresh.append((identity, decision))
        else:
            if self._last is not None and fresh:
                logger.warning("more decisions than are kept; some have no log line", extra=fields(kept=self._kept))
        for _, decision in reversed(fresh):
            log_at(
                logger,
                DEBUG,
                "EPP received request",
                x_request_id=decision["request_id"],
                model=decision["model"],
                prompt_tokens=decision["prompt_tokens"],
                destination=decision["destination"],
            )
        if fresh:
            self._last = fresh[0][0]
