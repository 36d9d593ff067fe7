"""The command runs: real Envoy, real picker, simulated replicas. Nothing here is a timed test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "bench" / "policy" / "run.py"
WORKLOADS = ("shared", "chat", "skewed")
# Two of the three: each costs as long again.
POLICIES = ("marginal-latency", "round-robin")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    process = subprocess.run(
        [sys.executable, RUN, "--quick", "--policies", ",".join(POLICIES), "--output", folder],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads((folder / "policy.json").read_text()), (folder / "README.md").read_text(), process.stdout


def test_every_policy_answers_the_same_requests_without_errors(finished):
    runs = finished[0]["runs"]
    assert [
        (run["workload"], run["policy"]) for run in sorted(runs, key=lambda run: (WORKLOADS.index(run["workload"]), POLICIES.index(run["policy"])))
    ] == [(workload, policy) for workload in WORKLOADS for policy in POLICIES]
    for run in runs:
        assert (run["errors"], run["warm_up_errors"], run["unfinished"], run["bypassed"]) == ({}, {}, 0, 0), run
        assert sum(run["picks"]) == run["measured"] > 20
        assert run["engine_lag"]["steps"] > 100
        assert 0 < run["ttft"]["p50"] < run["e2e"]["p50"]
    for workload in ("shared", "skewed"):
        assert len({run["requests"] for run in runs if run["workload"] == workload}) == 1


def test_policies_pick_differently(finished):
    for workload in WORKLOADS:
        picks = [run["picks"] for run in finished[0]["runs"] if run["workload"] == workload]
        assert len({tuple(sorted(counts)) for counts in picks}) > 1, picks
    shared = {run["policy"]: run for run in finished[0]["runs"] if run["workload"] == "shared"}
    turns = shared["round-robin"]["picks"]
    assert max(turns) - min(turns) <= 0.3 * sum(turns) / len(turns)
    assert shared["marginal-latency"]["hit_ratio"] > shared["round-robin"]["hit_ratio"]
    assert all(run["hit_ratio"] == 0 for run in finished[0]["runs"] if run["workload"] == "skewed")


def test_page_and_progress_name_every_run(finished):
    _, page, progress = finished
    for policy in POLICIES:
        assert page.count(f"| {policy} |") == len(WORKLOADS)
        assert progress.count(f" {policy}: ") == len(WORKLOADS)
    assert "guessed" in page


def test_unknown_workload_is_refused_with_those_that_there_are():
    process = subprocess.run([sys.executable, RUN, "--workloads", "nothing"], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert "no workload nothing; there are shared, chat, skewed" in process.stderr
