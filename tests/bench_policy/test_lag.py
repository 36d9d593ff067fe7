"""The simulator says whether it kept up with its own cost model."""

import pytest

from warmroute.sim.config import SimConfig
from warmroute.sim.driver import EngineDriver
from warmroute.sim.engine import SimulatedEngine
from warmroute.sim.sequence import Sequence


class LateLoop:
    """An event loop whose timers fire late."""

    def __init__(self, lateness: float) -> None:
        self.now = 0.0
        self.lateness = lateness
        self.due: list = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call, *arguments):
        self.due.append((self.now, call, arguments))

    def call_at(self, when, call, *arguments):
        self.due.append((when + self.lateness, call, arguments))

    def run(self) -> None:
        while self.due:
            when, call, arguments = self.due.pop(0)
            self.now = max(self.now, when)
            call(*arguments)


@pytest.mark.parametrize(("lateness", "lost"), [(0.0, 0.0), (0.01, 0.0), (0.05, 0.05)])
def test_time_lost_by_a_late_host_is_counted(lateness, lost):
    loop = LateLoop(lateness)
    driver = EngineDriver(SimulatedEngine(SimConfig(preset="h100-8b").engine_settings()), loop)
    sequence = Sequence(b"word" * 100, 10, 10)
    driver.submit(sequence)
    loop.run()
    assert sequence.finished == "length"
    assert driver.steps == 10
    assert driver.lag_seconds == pytest.approx(10 * lateness, abs=1e-9)
    assert driver.late_steps == (10 if lost else 0)
    assert driver.lost_seconds == pytest.approx(10 * lost, abs=1e-9)
