"""The published claim about inference-aware picking, as a comparison that can be run: throughput as good as a plain Service's, later tokens earlier.

Published on the Kubernetes blog for four H100 with vLLM and ShareGPT from 100 to 1,000 requests/s: throughput within 1 to 2 %, and beyond 500 requests/s
90 % of the per-token latencies up to 30 % lower. Four cards cannot compute that much of an 8B model, so the simulated pool is as large as
1,000 requests/s need.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from warmroute.replay.measures import NORMALIZED_P90, THROUGHPUT, median
from warmroute.replay.run import Level, Outcome

WORKLOAD = "sharegpt"
REPLICAS = 20
RATES = tuple(float(rate) for rate in range(100, 1001, 100))
BASE = "round-robin"
POLICIES = (BASE, "reference", "marginal-latency")
#: From here on the latency is claimed to be lower, and how far throughput may be apart.
FROM_RATE = 500.0
PARITY = 0.02


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """A line a policy: how the simulation compares with what was published."""
    lines = []
    for policy in dict.fromkeys(outcome.policy for outcome in outcomes if outcome.policy != BASE):
        apart, lower = [], []
        for level in dict.fromkeys(outcome.level for outcome in outcomes):
            ratios = _ratios(outcomes, policy, level)
            if ratios is None:
                continue
            apart.append(ratios[0] - 1)
            if (level.rate or 0) > FROM_RATE:
                lower.append(1 - ratios[1])
        if not apart or not lower:
            continue
        worst = min(apart)
        parity = "holds" if worst >= -PARITY else "does not hold"
        latency = "holds" if min(lower) > 0 else "does not hold"
        lines.append(
            f"{policy}: throughput at least {worst:+.1%} of {BASE}'s (parity within {PARITY:.0%} {parity}); "
            f"p90 of E2E/token above {FROM_RATE:g} requests/s lower by {min(lower):.1%} to {max(lower):.1%} ({latency})"
        )
    return lines


def print_verdict(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The lines, below the tables."""
    for line in verdict(outcomes):
        console.print(line)


def _ratios(outcomes: Sequence[Outcome], policy: str, level: Level) -> tuple[float, float] | None:
    """Throughput and p90 of the per-token latency, each as a ratio to the base policy."""
    values = []
    for measure in (THROUGHPUT, NORMALIZED_P90):
        own, base = (median(measure, [o.result for o in outcomes if o.policy == name and o.level == level]) for name in (policy, BASE))
        if own is None or not base:
            return None
        values.append(own / base)
    return values[0], values[1]
