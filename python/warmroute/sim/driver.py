"""Runs a simulated engine on the event loop: lets the time of each step pass, and tells who waits.

No task and no timer exists while the engine is idle, so an idle replica costs nothing. The end of a step is placed
on the engine's own time line, not on when the loop woke up, so timers that fire late do not add up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .engine import SimulatedEngine
    from .sequence import Sequence

MAX_LAG_SECONDS = 0.02
"""How far the engine's time line may be behind the clock before it is moved up: a stall causes no burst."""

STEPS_PER_TURN = 16
"""Steps of an engine that takes no time which run before the loop gets its turn."""


class EngineDriver:
    """Drives one engine."""

    def __init__(self, engine: SimulatedEngine, loop: asyncio.AbstractEventLoop, after_step: Callable[[], None] | None = None) -> None:
        """`after_step` is called after each step, for what has to be published."""
        self._engine = engine
        self._loop = loop
        self._after_step = after_step
        self._stepping = False
        self._pending: asyncio.Handle | None = None
        self.steps = 0
        """Steps that took time."""
        self.lag_seconds = 0.0
        """Sum over these steps of how late their ends ran: tokens came that much later than they should."""
        self.late_steps = 0
        """Steps after which the time line was moved up (`MAX_LAG_SECONDS`)."""
        self.lost_seconds = 0.0
        """Time by which it was moved: the engine was that much slower than its cost model, because its host was busy."""

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence; raises what `SimulatedEngine.add` raises."""
        self._engine.add(sequence, self._loop.time())
        if not self._stepping:
            self._stepping = True
            # The step begins when the loop has taken in what else is ready, as requests that arrive together share one.
            self._pending = self._loop.call_soon(self._turn, self._loop.time())

    def abort(self, sequence: Sequence) -> None:
        """End a sequence whose client is gone."""
        self._engine.abort(sequence, self._loop.time())

    def stop(self) -> None:
        """No further step."""
        if self._pending is not None:
            self._pending.cancel()
        self._stepping = True

    def _turn(self, now: float) -> None:
        for _ in range(STEPS_PER_TURN):
            seconds = self._engine.begin_step(now)
            if seconds is None:
                self._stepping = False
                self._pending = None
                return
            if seconds > 0:
                self._pending = self._loop.call_at(now + seconds, self._end_step, now + seconds)
                return
            self._finish(now)
        self._pending = self._loop.call_soon(self._turn, self._loop.time())

    def _end_step(self, now: float) -> None:
        self._finish(now)
        real = self._loop.time()
        lag = real - now
        self.steps += 1
        self.lag_seconds += max(0.0, lag)
        if lag > MAX_LAG_SECONDS:
            self.late_steps += 1
            self.lost_seconds += lag
            now = real
        self._turn(now)

    def _finish(self, now: float) -> None:
        advanced = self._engine.finish_step(now)
        if self._after_step is not None:
            self._after_step()
        for sequence in advanced:
            sequence.listener()
