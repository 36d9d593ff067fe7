"""Runs side by side: cancelled at once, failures told."""

from __future__ import annotations

import _thread
import threading
from typing import TYPE_CHECKING, Any

import pytest

from warmroute import _core

from . import simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

pytestmark = pytest.mark.usefixtures("known")


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_cancels_what_runs_and_what_waits(replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()
    started: list[int] = []

    class Progress(simulator.Progress):
        def cancel(self) -> None:
            cancelled.set()

    def simulate(*_: Any) -> dict[str, Any]:
        started.append(1)
        # As a user would, while the first ones run.
        if len(started) == 2:
            _thread.interrupt_main()
        # Where nobody cancels, the flag below stays unset.
        cancelled.wait(30)
        raise ValueError("cancelled")

    monkeypatch.setattr(_core, "Progress", Progress)
    monkeypatch.setattr(_core, "simulate", simulate)
    result = replay("rand8", "--rate", "1,2,3,4", "--policy", "random", "--jobs", "2", "--requests", "10")
    assert result.exit_code == 130
    assert result.stderr == "warmroute replay: cancelled\n"
    assert len(started) == 2
    assert cancelled.is_set()


def test_what_the_simulator_refuses_is_told_with_policy_and_load(replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(*_: Any) -> dict[str, Any]:
        raise ValueError("settings: replicas[0].block_size: must be at least 1")

    monkeypatch.setattr(_core, "simulate", simulate)
    result = replay("rand8", "--rate", "3", "--policy", "random", "--requests", "10")
    assert result.exit_code == 2
    assert result.stderr == "warmroute replay: policy random, 3 requests/s: settings: replicas[0].block_size: must be at least 1\n"
