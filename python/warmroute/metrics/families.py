"""From families of plain numbers to Prometheus families, under exactly the names given."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

PREFIX = "llm_d_epp_"
_ALPHA = "[ALPHA] "

BoundText = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Label values, then a value, or cumulative bucket counts (with +Inf) and a sum."""

    labels: tuple[str, ...]
    value: float = 0.0
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family with its full name. For histograms `value` of a sample is its sum and `bounds` are the upper bounds without +Inf."""

    name: str
    kind: str
    help: str
    label_names: tuple[str, ...] = ()
    samples: list[Sample] = field(default_factory=list)
    bounds: tuple[float, ...] = ()


def from_engine(stats: dict[str, Any]) -> Family:
    """A family as `_core.Engine.stats()` tells it, with the prefix added."""
    text = stats["help"] if stats["help"].startswith(_ALPHA) else _ALPHA + stats["help"]
    samples = []
    for sample in stats["samples"]:
        labels = tuple(sample[0])
        if stats["kind"] == "histogram":
            samples.append(Sample(labels, float(sample[2]), tuple(sample[1])))
        else:
            samples.append(Sample(labels, float(sample[1])))
    return Family(PREFIX + stats["name"], stats["kind"], text, tuple(stats["label_names"]), samples, tuple(stats.get("buckets") or ()))


def to_prometheus(family: Family, bound_text: BoundText) -> Metric:
    """The client library's form. No `_created` series: the reference has none."""
    if family.kind == "counter":
        counter = CounterMetricFamily(family.name, family.help, labels=family.label_names)
        for sample in family.samples:
            counter.add_metric(sample.labels, sample.value)
        return counter
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
        bounds = [*map(bound_text, family.bounds), "+Inf"]
        for sample in family.samples:
            histogram.add_metric(sample.labels, list(zip(bounds, sample.buckets, strict=True)), sample.value)
        return histogram
    gauge = GaugeMetricFamily(family.name, family.help, labels=family.label_names)
    for sample in family.samples:
        gauge.add_metric(sample.labels, sample.value)
    return gauge


def aggregate(samples: Sequence[Sample], keep: Sequence[int]) -> Iterator[Sample]:
    """The samples summed over the labels that are not kept (positions)."""
    sums: dict[tuple[str, ...], Sample] = {}
    for sample in samples:
        labels = tuple(sample.labels[position] for position in keep)
        before = sums.get(labels)
        if before is None:
            sums[labels] = Sample(labels, sample.value, sample.buckets)
        else:
            buckets = tuple(left + right for left, right in zip(before.buckets, sample.buckets, strict=True))
            sums[labels] = Sample(labels, before.value + sample.value, buckets)
    yield from sums.values()


# From this decimal exponent on, and below the other, Go writes a float with an exponent.
_GO_EXPONENT_FROM, _GO_EXPONENT_BELOW = 6, -4


def go_float(value: float) -> str:
    """A bucket bound as Go's text exposition writes it (`1`, `0.005`, `1.048576e+06`), so that `le` matches existing dashboards."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    # The shortest digits that read back as the same float, and where their point stands: value = 0.DIGITS * 10^point.
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    minus = "-" if sign else ""
    if not _GO_EXPONENT_BELOW <= point - 1 < _GO_EXPONENT_FROM:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        return f"{minus}{text[0]}{fraction}e{point - 1:+03d}"
    if point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    whole, fraction = text[:point].ljust(point, "0"), text[point:]
    return f"{minus}{whole}.{fraction}" if fraction else f"{minus}{whole}"
