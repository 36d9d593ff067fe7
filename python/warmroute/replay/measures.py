"""What is compared: which numbers of a simulation's result, how they are called, and how they are written."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """A number of a result. `path`: where it stands there, with dots. `scale`: from the result's unit to the shown one."""

    path: str
    title: str
    unit: str
    scale: float = 1.0

    def of(self, result: Mapping[str, Any]) -> float | None:
        """The number in the result's own unit; None where there is none (nothing was measured)."""
        value: Any = result
        for part in self.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return None if value is None or math.isnan(value) else float(value)

    def shown(self, value: float) -> str:
        """The number in the shown unit, three significant digits."""
        return significant(value * self.scale)


_MILLISECONDS = 1e3
_PERCENT = 100.0
# From here on a number rounds to three digits without a decimal place.
_WHOLE_FROM = 99.95
_MOST_PLACES = 10

TTFT_MEAN = Measure("ttft.mean", "TTFT mean", "s")
TTFT_P90 = Measure("ttft.p90", "TTFT p90", "s")
TTFT_P99 = Measure("ttft.p99", "TTFT p99", "s")
TPOT_P90 = Measure("tpot.p90", "TPOT p90", "ms", _MILLISECONDS)
E2E_MEAN = Measure("e2e.mean", "E2E mean", "s")
NORMALIZED_P90 = Measure("normalized.p90", "E2E/token p90", "ms", _MILLISECONDS)
THROUGHPUT = Measure("throughput", "throughput", "req/s")
HIT_RATIO = Measure("hit_ratio", "hit", "%", _PERCENT)
IMBALANCE_REQUESTS = Measure("imbalance.requests", "picks", "max/mean")
IMBALANCE_INFLIGHT = Measure("imbalance.inflight", "in flight", "max/mean")

#: The table's columns, in order.
COLUMNS = (
    TTFT_MEAN,
    Measure("ttft.p50", "TTFT p50", "s"),
    TTFT_P90,
    TTFT_P99,
    TPOT_P90,
    E2E_MEAN,
    NORMALIZED_P90,
    THROUGHPUT,
    HIT_RATIO,
    IMBALANCE_REQUESTS,
    IMBALANCE_INFLIGHT,
)


def median(measure: Measure, results: Iterable[Mapping[str, Any]]) -> float | None:
    """The median over the seeds; None where no result has the number."""
    values = [value for result in results if (value := measure.of(result)) is not None]
    return statistics.median(values) if values else None


def significant(value: float) -> str:
    """About three significant digits, whole numbers from 100 on, never an exponent."""
    if value == 0 or abs(value) >= _WHOLE_FROM:
        return f"{value:,.0f}"
    places = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(max(places, 0), _MOST_PLACES)}f}"
