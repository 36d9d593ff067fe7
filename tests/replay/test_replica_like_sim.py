"""The simulated replica and `warmroute sim`'s engine do the same with the same generated requests: first tokens, ends, cached tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from replay.make_replica_cases import COST_FIELDS, Hardware, Request, run
from warmroute import _core
from warmroute.sim.cost import PRESETS

PLAIN = Hardware()
ROUND_ROBIN = json.dumps(
    {"plugins": [{"type": "round-robin-picker"}], "profiles": [{"name": "default", "plugins": [{"plugin": "round-robin-picker"}]}]}
)


def settings(hardware: Hardware, seed: int) -> str:
    """One replica, every request told of."""
    cost = {name: getattr(hardware.cost, name) for name in COST_FIELDS}
    return json.dumps({"replicas": [{**asdict(hardware), "cost": cost}], "seed": seed, "warm_up": 0, "details": True})


def asked(trace: _core.Trace, arrivals: list[float]) -> list[Request]:
    """The trace's requests with the times at which they came. The last, partial block of a prompt is nobody else's."""
    lines = [json.loads(line) for line in trace.write().splitlines()]
    adapters = {name: number for number, name in enumerate(dict.fromkeys(line["lora"] for line in lines if line.get("lora")), 1)}
    requests = []
    for line, at in zip(lines, arrivals, strict=True):
        full = line["hash_ids"][: line["input_length"] // trace.unit_tokens]
        requests.append(Request(at, line["input_length"], line["output_length"], [(number, 1) for number in full], adapters.get(line.get("lora"), 0)))
    return requests


@pytest.mark.parametrize(
    ("workload", "hardware", "preempts"),
    [
        ({"workload": "no-reuse", "rate": 40}, PLAIN, False),
        ({"workload": "sharegpt", "rate": 20}, replace(PLAIN, max_num_seqs=24), False),
        ({"workload": "sharegpt", "rate": 30}, replace(PLAIN, num_gpu_blocks=400), True),
        ({"workload": "zipf", "rate": 8, "groups": 20}, replace(PLAIN, num_gpu_blocks=5000), True),
        ({"workload": "shared-prefix", "rate": 4, "groups": 10}, replace(PLAIN, num_gpu_blocks=2500, max_num_batched_tokens=2048), True),
        ({"workload": "skewed", "rate": 2}, replace(PLAIN, cost=PRESETS["h100-70b"].cost), True),
        # Turns wait for the answers before them: where an answer ended at another time, all that follows would.
        ({"workload": "chat", "rate": 20}, replace(PLAIN, num_gpu_blocks=3000), False),
        ({"workload": "lora-mix", "rate": 10}, replace(PLAIN, max_loras=2), False),
    ],
    ids=lambda value: value["workload"] if isinstance(value, dict) else None,
)
def test_generated_requests_fare_alike(workload: dict[str, Any], hardware: Hardware, preempts: bool) -> None:
    trace = _core.Trace.generate(json.dumps({"requests": 250, **workload}), 5)
    report = _core.simulate(trace, settings(hardware, 5), ROUND_ROBIN)
    assert report["answered"] == trace.requests
    assert (report["preemptions"] > 0) == preempts
    details = report["details"]
    # The engine takes requests in the order of time; the trace's order is that of its file.
    order = sorted(range(trace.requests), key=lambda number: (details["arrival"][number], number))
    requests = asked(trace, details["arrival"])
    engine = run(hardware, trace.unit_tokens, [requests[number] for number in order], [])
    simulated = {name: [details[name][number] for number in order] for name in ("ttft", "finish", "cached", "arrival")}
    assert simulated["cached"] == engine["cached"]
    first = [arrival + ttft for arrival, ttft in zip(simulated["arrival"], simulated["ttft"], strict=True)]
    assert first == pytest.approx(engine["first"], rel=1e-6)
    assert simulated["finish"] == pytest.approx(engine["finish"], rel=1e-6)
    assert report["preemptions"] == engine["metrics"][-1]["preemptions"]
