"""The self-check sends what the trace says to real simulated servers, and tells how far the simulation is off."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from warmroute.replay.hardware import Pool
from warmroute.replay.run import Bar
from warmroute.replay.self_check import Comparison, Planned, Timing, _measure, print_comparison, prompt_of, rows, single_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result


def test_prompts_share_as_many_tokens_as_their_first_blocks_say() -> None:
    one, other = prompt_of([7, 8, 9], 40, 16), prompt_of([7, 8, 10], 45, 16)
    assert (len(one), len(other)) == (160, 180)
    assert one[:128] == other[:128]
    assert one[128:] != other[128:160]
    assert prompt_of([7], 5, 16) == one[:20]


async def test_real_servers_compute_what_the_plan_says_and_find_what_they_have_seen() -> None:
    # One after the other on the first replica; the second one has seen nothing.
    plan = [
        Planned(0.0, 0, 128, 5, (1, 2, 3, 4)),
        Planned(0.4, 0, 128, 2, (1, 2, 3, 9)),
        Planned(0.4, 1, 128, 3, (1, 2, 3, 4)),
        Planned(0.8, 0, 40, 1, (1, 2)),
    ]
    pool = Pool("h100-8b", (20.0, 10.0))
    found = await _measure(pool, plan, 32, Bar(Console(file=io.StringIO())))
    assert [timing.output_tokens for timing in found] == [5, 2, 3, 1]
    # Whole blocks of 16 tokens, of the last one too.
    assert [timing.cached_tokens for timing in found] == [0, 96, 0, 32]
    assert all(0 < timing.first_token <= timing.end for timing in found)
    assert found[3].per_token is None


def test_errors_are_shares_of_what_was_measured() -> None:
    measured = tuple(Timing(0.1, 0.1 + 0.01 * 10, 11, 32) for _ in range(10))
    simulated = tuple(Timing(0.11, 0.11 + 0.01 * 10, 11, 32) for _ in range(10))
    comparison = Comparison(measured, simulated)
    found = {name: (left, right) for name, left, right in rows(comparison)}
    assert found["TTFT p90 [s]"] == pytest.approx((0.1, 0.11))
    assert found["TPOT mean [s]"] == pytest.approx((0.01, 0.01))
    assert found["prompt tokens cached"] == (320.0, 320.0)
    assert single_error(comparison) == pytest.approx(0.05)
    console = Console(file=io.StringIO(), width=100, markup=False)
    print_comparison(console, comparison, "title")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "TTFT p90 [s]" in text
    assert "+10.0 %" in text
    assert "median error of single requests, end to end: 5.0 %" in text


@pytest.mark.usefixtures("known")
def test_a_trace_that_cannot_be_sent_is_told(replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    from warmroute import _core  # noqa: PLC0415 - after the simulator is in place

    def simulate(*_: object) -> dict[str, object]:
        details = {"arrival": [0.0], "ttft": [math.nan], "finish": [math.nan], "replica": [0], "cached": [0]}
        return {"details": details}

    monkeypatch.setattr(_core, "simulate", simulate)
    result = replay("--self-check", "rand8", "--requests", "1")
    assert result.exit_code == 2
    assert "a request did not finish in the simulation; choose a lower --rate" in result.stderr
