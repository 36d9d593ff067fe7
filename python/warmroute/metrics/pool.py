"""Gauges of the pool as a whole, computed from the endpoints' state (names of the reference)."""

import statistics
from collections.abc import Sequence
from typing import Any

from warmroute.metrics.families import PREFIX, Family, Sample

_AVERAGED = (
    ("kv_cache_utilization", "kv_usage", "KV cache utilization"),
    ("queue_size", "waiting", "number of requests waiting in the model server queue"),
    ("running_requests", "running", "number of requests running on the model server"),
)


def pool_families(endpoints: Sequence[dict[str, Any]], pool: str, staleness_seconds: float) -> list[Family]:
    """The pool's gauges. `endpoints` as from `_core.Engine.endpoints()`.

    Ready is an endpoint whose metrics are younger than `staleness_seconds`; averages and deviations (of the population) are over the ready ones
    that tell the value, and absent when none does: 0 would read as an idle pool.
    """
    ready = [endpoint for endpoint in endpoints if endpoint["metrics_age"] is not None and endpoint["metrics_age"] < staleness_seconds]
    families = []
    for name, column, text in _AVERAGED:
        values = [float(endpoint[column]) for endpoint in ready if endpoint[column] is not None]
        for kind, word, reduce in (
            ("average", "average", statistics.fmean),
            ("std_dev", "standard deviation of the", statistics.pstdev),
        ):
            samples = [Sample((pool,), reduce(values))] if values else []
            text_of = f"[ALPHA] The {word} {text} over the pool's ready endpoints."
            families.append(Family(f"{PREFIX}{kind}_{name}", "gauge", text_of, ("name",), samples))
    families.append(
        Family(
            f"{PREFIX}ready_endpoints",
            "gauge",
            "[ALPHA] The number of ready endpoints in the pool.",
            ("name",),
            [Sample((pool,), len(ready))],
        )
    )
    per_endpoint = [Sample((pool, endpoint["name"]), float(endpoint["waiting"])) for endpoint in endpoints if endpoint["waiting"] is not None]
    families.append(
        Family(
            f"{PREFIX}per_endpoint_queue_size",
            "gauge",
            "[ALPHA] The number of requests waiting in the queue of each model server.",
            ("name", "model_server_endpoint"),
            per_endpoint,
        )
    )
    return families
