"""The whole command with the engine's own simulator."""

from __future__ import annotations

import _thread
import csv
import json
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from warmroute import _core
from warmroute.replay.workloads import WORKLOADS, generated

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

TRACES = Path(__file__).parent.parent / "data" / "traces"
COMPARED = ("zipf8", "--requests", "300", "--rate", "20,40", "--policy", "round-robin", "--policy", "marginal-latency", "--seeds", "1-2")


def test_the_same_seeds_give_the_same_lines_and_others_do_not(replay: Callable[..., Result], tmp_path: Path) -> None:
    for name, jobs in (("one.csv", "1"), ("many.csv", "4")):
        result = replay(*COMPARED, "--csv", name, "--jobs", jobs)
        assert result.exit_code == 0, result.stderr
    one = (tmp_path / "one.csv").read_bytes()
    assert one == (tmp_path / "many.csv").read_bytes()
    rows = list(csv.DictReader(one.decode().splitlines()))
    assert len(rows) == 8
    assert len({row["ttft.mean"] for row in rows}) == 8
    assert all(int(row["requests"]) == 300 and row["unfinished"] == "0" for row in rows)
    # Prompts of a group share 6,000 of some 6,400 tokens: who looks for them finds more than who takes turns.
    hits = {row["policy"]: float(row["hit_ratio"]) for row in rows}
    assert hits["marginal-latency"] > hits["round-robin"]


def test_a_public_trace_is_replayed_by_its_path_and_by_its_workload(
    replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(TRACES / "conversation-300.jsonl", tmp_path / "conversation_trace.jsonl")
    # At 9 requests/s 300 are over within half a minute: they are sent twice.
    for trace, words in (
        ("conversation_trace.jsonl", "300 requests, seed 1: as recorded"),
        ("conv8", "600 requests, seed 1: 9 requests/s (90% of capacity)"),
    ):
        monkeypatch.setenv("WARMROUTE_TRACES", str(tmp_path))
        load = () if trace != "conv8" else ("--load", "0.9", "--capacity", "10")
        result = replay(trace, "--policy", "random", *load)
        assert result.exit_code == 0, result.stderr
        assert f"{trace} on 8 x h100-8b, {words}" in result.stdout


def test_a_capacity_is_found_and_keeps_what_it_promises(replay: Callable[..., Result], tmp_path: Path) -> None:
    result = replay("rand8", "--requests", "400", "--replicas", "1", "--load", "1", "--policy", "marginal-latency", "--csv", "out.csv")
    assert result.exit_code == 0, result.stderr
    assert "capacity: " in result.stdout
    row = next(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert float(row["ttft.p90"]) <= 2.0
    # The study found 428.7 requests/s for eight such replicas: a short trace must not make a pool look faster than it is.
    assert 35 < float(row["rate"]) < 75


@pytest.mark.parametrize("seed", ["1", "31"])
def test_a_capacity_is_found_where_p90_lies_between_two_kinds_of_prompts(replay: Callable[..., Result], seed: str) -> None:
    # Of one seed's prompts a little more than a tenth are long, of the other's a little less.
    result = replay("skew8", "--requests", "300", "--replicas", "2", "--load", "0.5", "--policy", "random", "--seeds", seed)
    assert result.exit_code == 0, result.stderr
    assert "capacity: " in result.stdout


def test_every_generated_workload_can_be_made_and_simulated(replay: Callable[..., Result]) -> None:
    for workload in WORKLOADS.values():
        if workload.family is not None:
            assert generated(workload, {"requests": 20}).of(1).requests == 20
    result = replay("lora8", "--requests", "60", "--rate", "20", "--policy", "reference", "--mixed", "--signals", "counters", "--repeat", "2")
    assert result.exit_code == 0, result.stderr
    assert "120 requests" in result.stdout


def test_a_written_trace_is_read_again(replay: Callable[..., Result], tmp_path: Path) -> None:
    assert replay("chat8", "--requests", "40", "--write-trace", "chat.jsonl").exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "chat.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    result = replay("chat.jsonl", "--policy", "random")
    assert result.exit_code == 0, result.stderr
    assert "chat.jsonl on 8 x h100-8b, 40 requests, seed 1: as recorded" in result.stdout


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_ends_a_simulation_that_runs(replay: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    simulate = _core.simulate

    def interrupted(trace: Any, settings: str, policy: str, progress: _core.Progress) -> Any:
        def watch() -> None:
            while not progress.done:
                pass
            _thread.interrupt_main()

        threading.Thread(target=watch, daemon=True).start()
        return simulate(trace, settings, policy, progress)

    monkeypatch.setattr(_core, "simulate", interrupted)
    # Minutes, if nobody stopped it.
    result = replay("rand8", "--requests", "10000", "--repeat", "1000", "--rate", "100", "--policy", "random")
    assert result.exit_code == 130
    assert result.stderr == "warmroute replay: cancelled\n"


def test_the_self_check_compares_with_real_servers(replay: Callable[..., Result]) -> None:
    result = replay("--self-check", "zipf8", "--requests", "12", "--replica-speeds", "10,10", "--rate", "20", "--policy", "marginal-latency")
    assert result.exit_code == 0, result.stderr
    rows = {parts[1].strip(): parts[2:5] for line in result.stdout.splitlines() if len(parts := line.split("│")) == 6}
    assert {"TTFT mean [s]", "TPOT p90 [s]", "E2E p50 [s]"} <= rows.keys()
    # Which blocks a replica finds does not depend on how busy this machine is.
    measured, simulated, _ = rows["prompt tokens cached"]
    assert measured.strip() == simulated.strip() != "0"
