"""Tables, CSV and pictures say what was simulated, the same for the same seeds."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.usefixtures("known")

COMPARED = ("rand8", "--policy", "round-robin", "--policy", "marginal-latency", "--requests", "300", "--rate", "5,8,20", "--seeds", "1-3")


def test_a_table_a_level_shows_medians_and_ratios_to_the_first_policy(replay: Callable[..., Result]) -> None:
    result = replay(*COMPARED)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("300 requests, medians over seeds 1-3") == 3
    assert "rand8 on 8 x h100-8b" in result.stdout
    lines = result.stdout.splitlines()
    ours = next(index for index, line in enumerate(lines) if "marginal-latency" in line)
    # At 5 requests/s: 2 s * 5 / 50 against 2 s * 5 / 10.
    assert "0.200" in lines[ours]
    assert "×0.20" in lines[ours + 1]  # noqa: RUF001 - the sign for "times"
    assert "round-robin, 20 requests/s, seed 3: 3 of 300 requests had not finished" in result.stdout
    assert "derived, not measured on a GPU" in result.stdout


def test_a_narrow_terminal_gets_a_row_a_measure() -> None:
    from warmroute.replay.run import Level, Outcome  # noqa: PLC0415 - after the simulator is in place
    from warmroute.replay.table import print_tables  # noqa: PLC0415 - as above

    quick, slow = {"ttft": {"mean": 0.1}, "measured": 1, "requests": 5}, {"ttft": {"mean": 0.25}, "measured": 1, "requests": 5}
    outcomes = [Outcome("one", Level(5.0), 1, quick), Outcome("other", Level(5.0), 1, slow)]
    console = Console(file=io.StringIO(), width=80, markup=False)
    print_tables(console, outcomes, title="t", seeds="seed 1")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    row = next(line for line in lines if "TTFT mean [s]" in line)
    assert "0.100" in row
    assert "0.250 ×2.50" in row  # noqa: RUF001 - the sign for "times"
    assert max(map(len, lines)) <= 80
    assert "5 requests/s: all requests arrive within 1 s" in " ".join(lines)


def test_csv_is_the_same_for_the_same_seeds_however_many_run_at_once(replay: Callable[..., Result], tmp_path: Path) -> None:
    for name, jobs in (("one.csv", "1"), ("many.csv", "7")):
        assert replay(*COMPARED, "--csv", name, "--jobs", jobs).exit_code == 0
    one = (tmp_path / "one.csv").read_bytes()
    assert one == (tmp_path / "many.csv").read_bytes()
    rows = list(csv.DictReader(one.decode().splitlines()))
    assert [(row["rate"], row["policy"], row["seed"]) for row in rows[:4]] == [
        ("5.0", "round-robin", "1"),
        ("5.0", "round-robin", "2"),
        ("5.0", "round-robin", "3"),
        ("5.0", "marginal-latency", "1"),
    ]
    assert len(rows) == 18
    assert rows[0]["ttft.p90"] == "1.0"
    assert rows[0]["e2e.mean"] != rows[1]["e2e.mean"]


def test_csv_on_stdout_stands_alone(replay: Callable[..., Result]) -> None:
    result = replay(*COMPARED, "--csv", "-")
    assert len(list(csv.DictReader(result.stdout.splitlines()))) == 18
    assert "rand8 on" in result.stderr


def test_a_file_is_replayed_as_recorded_unless_a_rate_is_given(replay: Callable[..., Result], tmp_path: Path) -> None:
    request = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(request) + "\n" for _ in range(50)))
    result = replay("own.jsonl", "--policy", "random", "--policy", "reference", "--requests", "20", "--repeat", "3")
    assert "own.jsonl on 8 x h100-8b, 60 requests, seed 1: as recorded" in result.stdout


def test_a_configuration_file_is_a_policy(replay: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: lmetric-scorer\n")
    result = replay("rand8", "--rate", "20", "--policy", "round-robin", "--policy", "mine.yaml", "--requests", "50")
    assert result.exit_code == 0, result.stderr
    assert "mine" in result.stdout


def test_pictures_are_drawn_and_the_same_for_the_same_results(replay: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    for _ in range(2):
        result = replay(*COMPARED, "--plot", "figures")
        assert result.exit_code == 0, result.stderr
        drawn = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
        assert sorted(drawn) == ["balance.png", "latency.png", "throughput.png"]
        assert all(data.startswith(b"\x89PNG") and len(data) > 10_000 for data in drawn.values())
    again = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert again == drawn


def test_pictures_without_matplotlib_say_what_to_install(replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = replay(*COMPARED, "--plot", "figures")
    assert result.exit_code == 2
    assert result.stderr == "warmroute replay: --plot needs matplotlib: pip install 'warmroute[plots]'\n"


def test_the_published_claim_is_judged_against_round_robin(replay: Callable[..., Result]) -> None:
    result = replay("--claim", "--requests", "100")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("sharegpt on 20 x h100-8b") == 10
    # The known simulator's round robin bears 10 requests/s, ours 50: both are far beyond it at 600.
    assert "marginal-latency: throughput at least +400.0% of round-robin's (parity within 2% holds)" in result.stdout
    assert "lower by 80.0% to 80.0% (holds)" in result.stdout


def test_constants_are_explained_with_sources(replay: Callable[..., Result]) -> None:
    result = replay("--explain-constants")
    assert result.exit_code == 0
    for text in ("7 ms", "31.5 us", "48 ns", "2.7 TB/s", "27,000 x 16 tokens", "Left out:"):
        assert text in result.stdout


def test_workloads_are_listed(replay: Callable[..., Result]) -> None:
    from warmroute.replay.workloads import WORKLOADS  # noqa: PLC0415 - after the simulator is in place

    result = replay("--list")
    assert all(name in result.stdout for name in WORKLOADS)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.000345, "0.000345"), (0.01234, "0.0123"), (0.5, "0.500"), (9.994, "9.99"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_numbers_have_three_significant_digits(value: float, shown: str) -> None:
    from warmroute.replay.measures import significant  # noqa: PLC0415 - as above

    assert significant(value) == shown


def test_several_traces_are_ranked_by_geometric_means_and_share_a_csv(replay: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    policies = ("--policy", "round-robin", "--policy", "lmetric", "--policy", "marginal-latency")
    result = replay("rand8", "chat8", *policies, "--requests", "300", "--capacity", "8", "--load", "0.5,1", "--csv", str(file))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("2 workloads (rand8, chat8)") == 2
    _, _, ranking = result.stdout.partition("load 1: 2 workloads")
    rows = [line.replace("│", " ").split() for line in ranking.splitlines() if "marginal" in line or "lmetric" in line or "round" in line]
    # First tokens take 2 s * rate / 10, 40 and 50: the best first.
    assert [row[0] for row in rows] == ["marginal-latency", "lmetric", "round-robin"]
    assert [row[1] for row in rows] == ["1.000", "1.250", "5.000"]
    # Mean first tokens of 0.8 and 0.16 s; an end to end of 1.001 s more than the 90th percentiles' halves.
    assert rows[2][-4:] == ["5.000", "rand8", f"{(0.8 + 1.001) / (0.16 + 1.001):.3f}", "rand8"]
    table = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert len(table) == 2 * 2 * 3
    assert {row["trace"] for row in table} == {"rand8", "chat8"}


def test_a_ranking_shows_no_mean_where_a_workload_measured_nothing() -> None:
    from warmroute.replay.ranking import ranked  # noqa: PLC0415 - after the simulator is in place
    from warmroute.replay.run import Level, Outcome  # noqa: PLC0415 - as above

    def outcome(policy: str, mean: float | None, throughput: float) -> Outcome:
        times = {"mean": mean, "p90": mean}
        result = {"ttft": times, "tpot": times, "e2e": times, "throughput": throughput, "hit_ratio": 0.5}
        return Outcome(policy, Level(5.0), 1, result)

    first = [outcome("one", 1.0, 4.0), outcome("other", 2.0, 5.0)]
    second = [outcome("one", 8.0, 5.0), outcome("other", 4.0, 5.0)]
    (ranks,) = ranked({"first": first, "second": second}).values()
    by_name = {rank.policy: rank for rank in ranks}
    assert by_name["one"].ratios == pytest.approx((2**0.5,) * 4 + (0.8**0.5,))
    assert (by_name["other"].worst, by_name["other"].worst_workload) == (2.0, "first")
    (ranks,) = ranked({"first": first, "second": [second[0], outcome("other", None, 5.0)]}).values()
    assert ranks[0].policy == "one"
    assert ranks[1].ratios[0] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rand8", "rand8"), "rand8: named twice among the traces"),
        (("rand8", "nothing8"), "no workload 'nothing8'"),
        (("rand8", "chat8", "--self-check"), "--self-check takes one trace, not 2"),
    ],
)
def test_several_traces_are_checked_before_the_first_is_simulated(replay: Callable[..., Result], arguments: tuple[str, ...], words: str) -> None:
    result = replay(*arguments, "--rate", "5")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not result.stdout
