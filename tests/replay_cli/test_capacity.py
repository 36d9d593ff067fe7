"""The search for a pool's capacity finds a known threshold on its grid, in few steps, and remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import simulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result


@pytest.mark.parametrize("threshold", [-59, -7, 0, 1, 12, 59])
@pytest.mark.parametrize("start", [-3, 0, 20])
def test_the_highest_step_that_passes_is_found_in_few_steps(threshold: int, start: int) -> None:
    from warmroute.replay.capacity import highest  # noqa: PLC0415 - as the others, after the fixtures

    tried: list[int] = []

    def passes(step: int) -> bool:
        tried.append(step)
        return step <= threshold

    found = highest(passes, start)
    if abs(threshold - start) < 60:
        assert found == threshold
    assert len(tried) == len(set(tried)) <= 15


@pytest.mark.parametrize("answer", [True, False])
def test_a_search_without_an_end_gives_up(*, answer: bool) -> None:
    from warmroute.replay.capacity import highest  # noqa: PLC0415 - as above

    assert highest(lambda _: answer, 0) is None


@pytest.mark.usefixtures("known")
def test_loads_are_shares_of_the_rate_that_the_better_judge_bears(replay: Callable[..., Result], tmp_path: Path) -> None:
    first = replay("rand8", "--load", "0.5,1", "--policy", "random", "--requests", "200", "--csv", "out.csv")
    assert first.exit_code == 0, first.stderr
    bears = max(simulator.BEARS["marginal-latency-scorer"], simulator.BEARS["lmetric-scorer"])
    rates = [float(line.split(",")[4]) for line in (tmp_path / "out.csv").read_text().splitlines()[1:]]
    assert rates[0] == rates[1] / 2
    # On the grid, and the next step up would be too much.
    assert rates[1] <= bears < rates[1] * 1.1
    assert "known from before" not in first.stdout
    again = replay("rand8", "--load", "0.5,1", "--policy", "random", "--requests", "200", "--csv", "again.csv")
    assert "known from before" in again.stdout
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "out.csv").read_text()
    other = replay("rand8", "--load", "0.5", "--policy", "random", "--requests", "200", "--mixed")
    assert "known from before" not in other.stdout


@pytest.mark.usefixtures("known")
def test_a_damaged_memory_is_searched_again(replay: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "cache" / "warmroute" / "capacity.json"
    file.parent.mkdir(parents=True)
    for damage in ("{", "[]", '{"a": 1}'):
        file.write_text(damage)
        result = replay("rand8", "--load", "0.5", "--policy", "random", "--requests", "200")
        assert result.exit_code == 0, result.stderr
        assert "known from before" not in result.stdout
