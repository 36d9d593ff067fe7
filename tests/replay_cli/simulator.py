"""A simulator whose results are known: first tokens take longer the nearer a rate is to what the policy can bear."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

#: Requests/s at which 90 % of the first tokens take `BOUND` seconds, by picker or scorer of the policy.
BEARS = {"round-robin-picker": 10.0, "lmetric-scorer": 40.0, "marginal-latency-scorer": 50.0}
OTHERS_BEAR = 20.0
BOUND = 2.0


class Trace:
    def __init__(self, name: str, requests: list[dict[str, Any]]) -> None:
        self.name = name
        self.unit_tokens = 512
        self.dropped = self.unknown_outputs = 0
        self._requests = requests
        self.requests = len(requests)
        self.seconds = float(len(requests))
        self.session_seconds = 0.0
        self.prompt_tokens = sum(request["input_length"] for request in requests)

    @staticmethod
    def read(text: str, name: str) -> Trace:
        requests = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                requests.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{name}: line {number}: no JSON") from error
        return Trace(name, requests)

    @staticmethod
    def generate(settings_json: str, seed: int) -> Trace:
        settings = json.loads(settings_json)
        if unknown := settings.keys() - {"workload", "requests"}:
            raise ValueError(f"unknown field `{min(unknown)}`")
        draw = random.Random(seed)
        lengths = [draw.randint(500, 2000) for _ in range(settings.get("requests", 1000))]
        requests = [
            {"timestamp": 1000 * index, "input_length": length, "output_length": 20, "hash_ids": list(range(-(-length // 512)))}
            for index, length in enumerate(lengths)
        ]
        return Trace(settings["workload"], requests)

    def write(self) -> str:
        return "".join(json.dumps(request) + "\n" for request in self._requests)


@dataclass
class Progress:
    done: int = 0
    cancelled: bool = False
    #: What to do while a simulation runs.
    calls: list[str] = field(default_factory=list)

    def cancel(self) -> None:
        self.cancelled = True


def simulate(trace: Trace, settings_json: str, policy_json: str, progress: Progress | None = None) -> dict[str, Any]:
    settings = json.loads(settings_json)
    types = [plugin["type"] for plugin in json.loads(policy_json)["plugins"]]
    bears = next((BEARS[name] for name in types if name in BEARS), OTHERS_BEAR)
    rate = settings["rate"] or 1.0
    requests = min(trace.requests, settings["limit"] or trace.requests) * settings["repeat"]
    late = BOUND * rate / bears if rate <= bears else 100 * rate / bears
    first = {"mean": late / 2, "p50": late / 3, "p90": late, "p99": late * 1.5}
    if progress is not None:
        progress.done = requests
    return {
        "requests": requests,
        "measured": int(requests * (1 - settings["warm_up"])),
        "seconds": requests / rate,
        "ttft": first,
        "tpot": {name: value / 100 for name, value in first.items()},
        "e2e": {name: value + 1 + settings["seed"] / 1000 for name, value in first.items()},
        "normalized": {name: value / 200 for name, value in first.items()},
        "throughput": min(rate, bears),
        "output_tokens_per_second": 20 * min(rate, bears),
        "hit_ratio": 0.5,
        "predicted_hit_ratio": 0.5,
        "imbalance": {"requests": 1.5, "inflight": 1.25},
        "preemptions": 0,
        "unfinished": 0 if rate <= bears else 3,
        "picks": [requests],
        "learnt": {},
        "details": None,
    }
