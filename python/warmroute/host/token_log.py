"""Log lines for a tokenizer that gives no tokens: once when it begins, once when it is over, however many requests it was.

Requests go on without tokens, so nobody else says that the exact prefix index is not asked any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from warmroute.logging import fields

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
# A tokenizer that fails now and then does not fill the log: after a line, nothing more is told of a reason for so long.
_QUIET_SECONDS = 60.0
# Whose fault it is: the tokenizer's, which ends some time; or what a request asks for, which the next one may not.
_OUTAGES = ("unavailable", "panicked", "busy")
_REFUSALS = ("bad_request", "unsupported")
_GOOD = "ok"
# A client that leaves is nobody's fault; where all leave and nothing is answered, the tokenizer is slower than the gateway is patient.
_LEFT = "abandoned"


class OutcomeSource(Protocol):
    """The part of `_core.Engine` that is read."""

    def token_outcomes(self) -> list[dict[str, Any]]:
        """How requests fared since the start, by outcome."""


class TokenLog:
    """Writes what has changed once a second."""

    def __init__(self, engine: OutcomeSource, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read before `run` or `look`. `clock`: seconds."""
        self._engine = engine
        self._clock = clock
        self._counts: dict[str, int] = {}
        self._down_since: float | None = None
        self._missed = 0
        #: The outage that lasts was told of.
        self._told = False
        self._quiet_until: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Write what has come since the last look."""
        rows = {row["outcome"]: row for row in self._engine.token_outcomes()}
        new = {outcome: row["count"] - self._counts.get(outcome, 0) for outcome, row in rows.items()}
        self._counts = {outcome: row["count"] for outcome, row in rows.items()}
        for reason in _REFUSALS:
            if new.get(reason):
                self._refused(reason, new[reason], rows[reason]["last"])
        failed = {reason: new[reason] for reason in _OUTAGES if new.get(reason)}
        if new.get(_LEFT) and not new.get(_GOOD):
            failed[_LEFT] = new[_LEFT]
        if failed:
            self._failed(failed, new.get(_GOOD, 0), rows)
        elif new.get(_GOOD) and self._down_since is not None:
            self._recovered(self._down_since)

    def _failed(self, failed: dict[str, int], succeeded: int, rows: dict[str, dict[str, Any]]) -> None:
        now = self._clock()
        self._missed += sum(failed.values())
        if self._down_since is None:
            self._down_since = now
        reason = next(iter(failed))
        if self._told or not self._may_tell(reason, now):
            return
        self._told = True
        logger.warning(
            "no tokens for prompts; they are matched by what was sent before",
            extra=fields(reason=reason, error=rows[reason]["last"], requests=self._missed, requests_with_tokens=succeeded),
        )

    def _recovered(self, since: float) -> None:
        if self._told:
            seconds = round(self._clock() - since, 1)
            logger.info("tokens for prompts again", extra=fields(after_seconds=seconds, requests_without_tokens=self._missed))
        self._down_since, self._missed, self._told = None, 0, False

    def _refused(self, reason: str, requests: int, error: str) -> None:
        self._untold[reason] = self._untold.get(reason, 0) + requests
        if self._may_tell(reason, self._clock()):
            # Where nothing at all becomes tokens, it is hardly the requests: a template or a tokenizer of another model.
            level = logging.INFO if self._counts.get(_GOOD) else logging.WARNING
            logger.log(
                level,
                "no tokens for some requests; they are matched by what was sent before",
                extra=fields(reason=reason, error=error, requests=self._untold.pop(reason)),
            )

    def _may_tell(self, reason: str, now: float) -> bool:
        if now < self._quiet_until.get(reason, now):
            return False
        self._quiet_until[reason] = now + _QUIET_SECONDS
        return True
