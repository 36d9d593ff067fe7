"""One log line a refused request (4xx or 5xx answered by the picker), off the way of the requests.

The engine keeps the refusals of the last second in a bounded ring, whichever host serves; they are taken and written here. More than it
keeps are told as a number: a flood of bad requests must not become a flood of lines.
"""

import asyncio
import logging
from typing import Any, Protocol

from warmroute.logging import fields

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class RefusalSource(Protocol):
    """The part of `_core.Engine` that is read."""

    def take_refusals(self) -> tuple[list[dict[str, Any]], int]:
        """The refusals since the last call, oldest first, and how many more there were."""


class RefusalLog:
    """Writes the refusals once a second."""

    def __init__(self, engine: RefusalSource) -> None:
        """Nothing is taken before `run` or `look`."""
        self._engine = engine

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Write what has come since the last look."""
        refusals, dropped = self._engine.take_refusals()
        for refusal in refusals:
            details = fields(
                x_request_id=refusal["request_id"],
                status=refusal["status"],
                code=refusal["code"],
                reason=refusal["dropped_reason"] or refusal["message"],
                message=refusal["message"],
                age_ms=round(refusal["age_ms"], 1),
            )
            logger.info("request refused", extra=details)
        if dropped:
            logger.warning("more requests were refused than are logged", extra=fields(logged=len(refusals), not_logged=dropped))
