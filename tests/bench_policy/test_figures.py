"""Schedules, figures of a run, ratios within pairs, the search for the capacity."""

import random
from dataclasses import replace
from statistics import fmean

import pytest
from harness.errors import BenchError
from policy import page
from policy.answers import Answer
from policy.capacity import Search
from policy.command import Case
from policy.drive import Record
from policy.measure import Plan, flags, spread, summary
from policy.page import ratio
from policy.workloads import SHARED_PREFIX, WORKLOADS, lognormal

REPLICAS = ("a:1", "b:2")
QUIET = {"errors": {}, "cpu_share": 0.1, "engine_lag": {}, "client_late": {}, "flags": []}


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_schedule_is_the_same_for_a_seed_and_keeps_the_rate(workload):
    sessions = workload.sessions(20.0, 60.0, 7)
    assert sessions == workload.sessions(20.0, 60.0, 7)
    assert sessions != workload.sessions(20.0, 60.0, 8)
    assert all(0 <= session.start < 60 for session in sessions)
    if not sessions[0].system:
        assert len(sessions) == pytest.approx(1_200, rel=0.15)
    else:
        # A session under way at the beginning, and those that come: each asks once a pause and an answer.
        assert fmean(len(session.turns) for session in sessions) == pytest.approx(6, rel=0.2)
    assert all(len(turn.text) % 4 == 0 for session in sessions for turn in session.turns)


def test_workloads_share_what_they_say():
    def prompts(name):
        return [turn.text for session in WORKLOADS[name].sessions(20.0, 60.0, 1) for turn in session.turns]

    assert len({text[: 4 * SHARED_PREFIX] for text in prompts("shared")}) <= 40
    assert len(set(prompts("shared"))) == len(prompts("shared"))
    skewed = prompts("skewed")
    assert len({text[:64] for text in skewed}) == len(skewed)
    assert sum(len(text) > 4 * 3_000 for text in skewed) / len(skewed) == pytest.approx(0.1, abs=0.03)


def test_lognormal_lengths_have_their_mean_and_bounds():
    drawn = [lognormal(random.Random(seed), 400, 0.5, 50, 1_500) for seed in range(3_000)]
    assert fmean(drawn) == pytest.approx(400, rel=0.05)
    assert min(drawn) >= 50
    assert max(drawn) <= 1_500


def record(due: float, *, first: float | None = None, last: float = 0.0, served: str = "a:1", error: str = "", ended: float | None = None) -> Record:
    answer = None
    if ended is None:
        answer = Answer(served, first or 0.0, last, 11, "", 100, 60)
        ended = last
    return Record(due, due + 0.001, ended, answer, first, last, error)


@pytest.mark.parametrize("name", ["shared", "skewed"])
def test_half_as_many_requests_come_while_caches_are_empty(name):
    starts = [session.start for session in WORKLOADS[name].sessions(50.0, 120.0, 3, quiet=60.0)]
    quiet = sum(start < 60.0 for start in starts)
    assert 0.4 < quiet / (len(starts) - quiet) < 0.6


def test_summary_leaves_the_warm_up_out_and_counts_what_waited_in_vain():
    plan = Plan(WORKLOADS["shared"], 1.0, 10.0, 0.2, 1)
    records = [
        record(1.9, first=9.0, last=9.5),
        record(2.0, first=2.5, last=3.5),
        record(4.0, first=4.5, last=5.5, served="b:2"),
        record(6.0, first=6.5, last=7.5),
        record(7.0, ended=7.1, error="status 503"),
        record(8.0, ended=15.0),
        record(9.0, first=9.5, ended=15.0),
    ]
    found = summary(records, plan, REPLICAS)
    assert (found["requests"], found["measured"], found["unfinished"], found["errors"]) == (7, 6, 2, {"status 503": 1})
    assert found["ttft"]["p50"] == 0.5
    assert found["ttft"]["p99"] == 7.0
    assert found["second_half"]["ttft"]["p99"] == 7.0
    # One of four that were due from 6 s on ended within that time, and one of before.
    assert found["second_half"]["kept_up"] == 0.5
    assert found["tpot"] == {"mean": 0.1, "p50": 0.1, "p90": 0.1, "p99": 0.1}
    assert found["e2e"]["p50"] == 1.5
    assert found["e2e"]["p99"] == 7.0
    assert (found["picks"], found["hit_ratio"]) == ([2, 1], 0.6)
    # Completions within the measured time, one of them of a request of the warm-up.
    assert found["throughput"] == pytest.approx(4 / 8)


def test_summary_of_a_run_without_answers_has_no_figures():
    found = summary([record(5.0, ended=5.1, error="connection refused")], Plan(WORKLOADS["shared"], 1.0, 10.0, 0.2, 1), REPLICAS)
    assert (found["ttft"], found["tpot"], found["hit_ratio"], found["picks"]) == (None, None, None, [0, 0])


def test_percentiles_are_nearest_ranks():
    assert spread([float(value) for value in range(1, 101)]) == {"mean": 50.5, "p50": 50.0, "p90": 90.0, "p99": 99.0}
    assert spread([3.0]) == {"mean": 3.0, "p50": 3.0, "p90": 3.0, "p99": 3.0}
    assert spread([]) is None


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({}, []),
        ({"engine_lag": {"lost_share": 0.02, "mean_seconds": 0.0}}, ["simulators late"]),
        ({"engine_lag": {"lost_share": 0.0, "mean_seconds": 0.006}}, ["simulators late"]),
        ({"client_late": {"p99": 0.03}}, ["client late"]),
        ({"bypassed": 2}, ["picker bypassed"]),
    ],
)
def test_doubtful_runs_are_flagged(change, flag):
    run = {"engine_lag": {"lost_share": 0.0, "mean_seconds": 0.001}, "client_late": {"p99": 0.001}, "bypassed": 0}
    assert flags(run | change) == flag


def test_ratio_is_the_median_of_those_within_each_round():
    ours = {number: {"round": number, "x": value} for number, value in enumerate((1.0, 10.0, 100.0))}
    others = [{"round": number, "x": value} for number, value in enumerate((2.0, 30.0, 110.0))]
    assert ratio(others, ours, lambda run: run["x"]) == 2.0
    assert ratio([], ours, lambda run: run["x"]) is None


def test_each_policy_goes_first_as_often_as_the_others():
    firsts = [Case(0, number, "shared", 0.5).order(["a", "b", "c"])[0] for number in range(3)]
    assert sorted(firsts) == ["a", "b", "c"]


def probe(ttft: float, kept_up: float) -> dict:
    return {"ttft": {"p90": ttft}, "second_half": {"ttft": {"p90": ttft}, "kept_up": kept_up}, **QUIET}


@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize(("true", "guess"), [(100.0, 40.0), (9.0, 40.0), (40.0, 40.0)])
def test_search_finds_the_highest_rate_within_the_limits(true, guess, slow):
    workload = replace(WORKLOADS["shared"], guess=guess)

    def run(plan: Plan):
        return probe(0.05 if plan.rate <= true or not slow else 30.0, 1.0 if plan.rate <= true or slow else 0.8)

    found = Search(workload, 10.0, 0.2, run, print).find()
    assert found["bracketed"]
    assert true / 1.07 <= found["rate"] <= true
    # Twice the preset's speed: half the study's two seconds.
    assert found["limit_seconds"] == 1.0


def test_search_says_when_it_found_only_a_bound():
    rates: list[float] = []

    def run(plan: Plan):
        rates.append(plan.rate)
        return probe(0.05, 1.0)

    found = Search(WORKLOADS["shared"], 10.0, 0.2, run, print).find()
    assert not found["bracketed"]
    assert found["rate"] == max(rates)


def test_search_without_requests_says_what_to_do():
    empty = {"second_half": {"ttft": None, "kept_up": 0.0}, "ttft": None, **QUIET}
    with pytest.raises(BenchError, match="no request in the second half"):
        Search(WORKLOADS["shared"], 2.0, 0.2, lambda _: empty, print).find()


def test_page_says_what_the_policy_ran_on():
    series = 'inference_policy_signal_endpoints{signal="%s"}'
    runs = [{"learnt": {series % "counters": 3.0, series % "ends": 1.0, series % "none": 0.0}}, {"learnt": {series % "counters": 4.0}}]
    assert page._signals(runs, "ours") == "Signals that ours ran on at the end of its runs, by endpoints: `counters` 88%, `ends` 12%."
    assert not page._signals([{"learnt": {}}], "ours")
