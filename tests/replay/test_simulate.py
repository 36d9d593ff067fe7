"""Traces and simulations through the binding: what they read, what they tell, and that a seed repeats them to the last bit."""

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from policies import REFERENCE, loaded
from warmroute import _core
from warmroute.sim.cost import PRESETS

TRACES = Path(__file__).parents[1] / "data" / "traces"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "traces" / "conversation_trace.jsonl"
OURS = json.dumps(
    {"plugins": [{"type": "marginal-latency-scorer"}], "profiles": [{"name": "default", "plugins": [{"plugin": "marginal-latency-scorer"}]}]}
)
RANDOM = json.dumps({"plugins": [{"type": "random-picker"}], "profiles": [{"name": "default", "plugins": [{"plugin": "random-picker"}]}]})


def hardware(preset: str = "h100-8b", speed: float = 1.0) -> dict[str, Any]:
    """A replica of the simulated server's preset."""
    found = PRESETS[preset]
    cost = found.cost.faster(speed)
    names = ("step", "prefill_token", "decode_sequence", "decode_kv_token", "prefill_context")
    return {
        "cost": {name: getattr(cost, name) for name in names},
        "num_gpu_blocks": found.num_gpu_blocks,
        "block_size": found.block_size,
        "max_num_seqs": 256,
        "max_num_batched_tokens": 8192,
        "max_loras": 1,
    }


def settings(replicas: int = 4, **more: Any) -> str:
    """Settings of a pool of equal replicas."""
    return json.dumps({"replicas": [hardware()] * replicas, **more})


def generated(workload: str, requests: int = 2000, rate: float = 20, seed: int = 1, **more: Any) -> _core.Trace:
    """A generated trace."""
    return _core.Trace.generate(json.dumps({"workload": workload, "requests": requests, "rate": rate, **more}), seed)


@pytest.mark.parametrize("name", ["conversation-300", "synthetic-300"])
def test_the_public_traces_are_read_played_and_written(name: str) -> None:
    trace = _core.Trace.read((TRACES / f"{name}.jsonl").read_text(), name)
    assert (trace.name, trace.requests, trace.unit_tokens, trace.headers, trace.dropped) == (name, 300, 512, [], 0)
    assert repr(trace) == f'Trace("{name}", 300 requests)'
    again = _core.Trace.read(trace.write(), name)
    assert again.write() == trace.write()
    report = _core.simulate(trace, settings(8, rate=4, details=True), OURS)
    assert (report["answered"], report["measured"], report["unfinished"]) == (300, 255, 0)
    assert 0 < report["hit_ratio"] < 1
    assert len(report["details"]["finish"]) == 300
    assert all(0 <= replica < 8 for replica in report["details"]["replica"])
    # Rounded times are spread anew by each seed.
    arrivals = report["details"]["arrival"]
    other = _core.simulate(trace, settings(8, rate=4, details=True, seed=1), OURS)["details"]["arrival"]
    assert (arrivals != other) == (name == "conversation-300")


def test_the_public_conversation_trace_fares_as_the_study_says() -> None:
    if not SHARED.exists():
        pytest.skip(f"the whole trace is not at {SHARED}")
    trace = _core.Trace.read(SHARED.read_text(), "conversation")
    assert trace.requests == 12_031
    # 80 % of the study's capacity of eight replicas, 9.2 requests/s.
    asked = settings(8, rate=0.8 * 9.2, limit=6000)
    ours, random = (_core.simulate(trace, asked, policy) for policy in (OURS, RANDOM))
    assert ours["measured"] == random["measured"] == 5100
    assert ours["hit_ratio"] > 1.5 * random["hit_ratio"]
    assert ours["ttft"]["p90"] < random["ttft"]["p90"] / 2
    assert ours["e2e"]["mean"] < random["e2e"]["mean"]


@pytest.mark.parametrize("signals", ["first_token", "counters", "ends"])
def test_a_report_is_complete_and_consistent(signals: str) -> None:
    trace = generated("zipf", groups=20)
    report = _core.simulate(trace, settings(4, signals=signals, warm_up=0.25), loaded(REFERENCE))
    assert (report["requests"], report["answered"], report["measured"], sum(report["picks"])) == (2000, 2000, 1500, 1500)
    assert report["refused"] == report["too_long"] == report["unfinished"] == report["never_sent"] == 0
    for name in ("ttft", "tpot", "e2e", "normalized"):
        summary = report[name]
        assert 0 < summary["p50"] <= summary["p90"] <= summary["p99"], name
    assert report["throughput"] == pytest.approx(20, rel=0.15)
    assert report["output_tokens_per_second"] == pytest.approx(20 * 250, rel=0.2)
    assert report["hit_ratio"] > 0.8
    assert report["predicted_hit_ratio"] == pytest.approx(report["hit_ratio"], abs=0.05)
    assert report["imbalance"]["requests"] >= 1
    assert 1 <= report["imbalance"]["inflight"] <= 4
    assert report["details"] is None
    assert report["learnt"]["signals"] == [signals] * 4
    curve = report["learnt"]["curve"]
    if signals != "ends":
        # b of the cost model is 31.5 microseconds a token; a first token also waits for steps that already run.
        assert 25e-6 < curve["prefill_token"] < 120e-6
        assert curve["output_tokens"] == pytest.approx(250, rel=0.3)


def test_what_is_learnt_tells_slow_replicas_from_fast_ones() -> None:
    trace = generated("no-reuse", requests=3000, rate=25, prompt_tokens=2000, output_tokens=60)
    pool = [hardware(speed=0.5 if number % 2 else 1) for number in range(4)]
    factors = _core.simulate(trace, json.dumps({"replicas": pool}), OURS)["learnt"]["prefill_factors"]
    assert min(factors[1::2]) > 1.2 * max(factors[0::2]), factors


def test_conversations_are_measured_at_the_rate_that_was_asked_for() -> None:
    # Conversations of about a minute: at first only their first turns come.
    trace = generated("chat", requests=3000, rate=20)
    assert trace.session_seconds == pytest.approx(60, rel=0.1)
    long, short = (_core.simulate(trace, settings(4, rate=20, repeat=repeat), OURS) for repeat in (3, 1))
    assert long["offered"] == pytest.approx(20, rel=0.1)
    assert long["throughput"] == pytest.approx(long["offered"], rel=0.05)
    # A quarter of the time is measured where the trace is over before the pool is as full as the rate makes it.
    assert short["measured"] == pytest.approx(0.25 * 3000, rel=0.2)
    assert 0.5 * 20 < short["offered"] < 20


def test_a_hand_made_trace_has_the_numbers_that_can_be_reckoned() -> None:
    # A step a second, whatever is in it: a request of n tokens has its first token after one step, and the last n - 1 steps later.
    cost = {"step": 1.0, "prefill_token": 0.0, "decode_sequence": 0.0, "decode_kv_token": 0.0, "prefill_context": 0.0}
    pool = [{**hardware(), "cost": cost}] * 2
    # Ten seconds apart, on two replicas in turn; the third and the fourth prompt were seen by the replica that has them.
    prompts = [(1, [1, 2]), (2, [3, 4]), (3, [1, 2]), (4, [3, 9]), (5, [7])]
    lines = [
        {
            "timestamp": 10_000 * number,
            "input_length": 16 * len(ids) + 1,
            "output_length": output,
            "hash_ids": [*ids, 100 + number],
            "unit_tokens": 16,
        }
        for number, (output, ids) in enumerate(prompts)
    ]
    trace = _core.Trace.read("\n".join(json.dumps(line) for line in lines), "t")
    turns = json.dumps(
        {"plugins": [{"type": "round-robin-picker"}], "profiles": [{"name": "default", "plugins": [{"plugin": "round-robin-picker"}]}]}
    )
    report = _core.simulate(trace, json.dumps({"replicas": pool, "warm_up": 0.2, "details": True}), turns)
    assert report["details"]["ttft"] == [1.0] * 5
    assert report["details"]["finish"] == [1.0, 12.0, 23.0, 34.0, 45.0]
    assert report["details"]["cached"] == [0, 0, 32, 16, 0]
    # The first one is warm-up; of the others:
    assert report["measured"] == 4
    assert report["e2e"] == {"mean": 3.5, "p50": 3.5, "p90": pytest.approx(4.7), "p99": pytest.approx(4.97)}
    assert report["normalized"] == {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0}
    assert report["tpot"]["mean"] == 1.0
    # From 10 s to 40 s: three answers, of 2 + 3 + 4 tokens, and arrivals at 10, 20, 30, 40 s.
    assert report["throughput"] == pytest.approx(3 / 30)
    assert report["output_tokens_per_second"] == pytest.approx(9 / 30)
    assert report["offered"] == pytest.approx(3 / 30)
    assert report["hit_ratio"] == pytest.approx((32 + 16) / (33 + 33 + 33 + 17))
    assert report["picks"] == [2, 2]
    # One request at a time is in flight, on one of two replicas.
    assert report["imbalance"] == {"requests": 1.0, "inflight": 2.0}


def test_another_process_gives_the_same_bits() -> None:
    script = (
        "import json, sys; from warmroute import _core; "
        "trace = _core.Trace.generate(json.dumps({'workload': 'chat', 'requests': 1500, 'rate': 40}), 3); "
        "print(json.dumps([_core.simulate(trace, sys.argv[1], policy) for policy in sys.argv[2:]]))"
    )
    asked = settings(5, seed=7, rate=60, details=True)
    policies = (OURS, RANDOM, loaded(REFERENCE))
    runs = []
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", script, asked, *policies], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        runs.append(run.stdout)
    assert runs[0] == runs[1]
    trace = generated("chat", requests=1500, rate=40, seed=3)
    assert json.loads(runs[0]) == [_core.simulate(trace, asked, policy) for policy in policies]


def test_progress_is_seen_and_cancelled_from_another_thread() -> None:
    trace = generated("no-reuse", requests=10_000, rate=200)
    progress = _core.Progress()
    failures: list[BaseException] = []

    def play() -> None:
        try:
            _core.simulate(trace, settings(4, repeat=1000), OURS, progress)
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    while not progress.done and thread.is_alive():
        thread.join(0.01)
    progress.cancel()
    thread.join(60)
    assert not thread.is_alive()
    assert 0 < progress.done < 10_000_000
    assert [str(failure) for failure in failures] == ["simulation: cancelled"]


def test_nothing_measured_is_none() -> None:
    text = '{"timestamp": 0, "input_length": 500000, "output_length": 1, "hash_ids": [1], "unit_tokens": 500000}'
    report = _core.simulate(_core.Trace.read(text, "t"), settings(details=True), OURS)
    assert (report["too_long"], report["measured"], report["ttft"]["mean"]) == (1, 0, None)
    assert math.isnan(report["details"]["finish"][0])


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda: _core.Trace.read("{}\n{", "a.jsonl"), r"^a\.jsonl: line 2: not a request"),
        (lambda: _core.Trace.generate('{"workload": "zipf", "groups": -1}', 0), "^workload: invalid value: integer `-1`"),
        (lambda: _core.simulate(generated("no-reuse", 10), settings(rate=-1), OURS), "^simulation: rate must be positive or null$"),
        (lambda: _core.simulate(generated("no-reuse", 10, unit_tokens=24), settings(), OURS), r"^simulation: replicas\[0\]: .*stand for 24 tokens"),
        (lambda: _core.simulate(generated("no-reuse", 10), settings(), "{}"), "^policy: missing field `plugins`"),
        (lambda: _core.simulate(generated("no-reuse", 10), settings(), OURS.replace("marginal", "mystery")), "mystery-latency-scorer"),
    ],
)
def test_what_cannot_be_used_is_named(what: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        what()
