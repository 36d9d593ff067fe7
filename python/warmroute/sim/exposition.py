"""Writes a Prometheus text page as prometheus-client does, cheaply enough for a page asked for every 50 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .statistics import Histogram

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"
_LARGE = 1e6
"""From here on prometheus-client writes an exponent."""


def number(value: float) -> str:
    """A sample value: `3.0`, `1.795164676e+09`, `+Inf`."""
    if value == float("inf"):
        return "+Inf"
    text = repr(float(value))
    if value < _LARGE or "e" in text:
        return text
    whole, _, fraction = text.partition(".")
    digits = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
    return f"{digits}e+{len(whole) - 1:02d}"


def labels_text(labels: Mapping[str, str]) -> str:
    """`{a="x",b="y"}` in alphabetical order, or nothing."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(labels.items())) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Page:
    """Families in order. Each is written when asked for; headers and label texts are prepared once."""

    def __init__(self, labels: Mapping[str, str], created: float) -> None:
        """`labels` of every series unless a family says otherwise; `created`: Unix time for `_created` series."""
        self.labels = dict(labels)
        self.created = created
        self._families: list[tuple[str, Callable[[], str]]] = []

    def gauge(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """A gauge with one series; `labels` are added to the page's own."""
        self.gauges(name, text, [({**self.labels, **labels}, value)])

    def gauges(self, name: str, text: str, series: list[tuple[Mapping[str, str], Callable[[], float]]]) -> None:
        """A gauge with several series, each with all of its labels."""
        self._add(name, _header(name, text, "gauge"), [(name + labels_text(labels), value) for labels, value in series])

    def changing_gauge(self, name: str, text: str, series: Callable[[], list[tuple[Mapping[str, str], float]]]) -> None:
        """A gauge whose label values change."""
        header = _header(name, text, "gauge")
        self._families.append(
            (
                name,
                lambda: header + "".join(f"{name}{labels_text(labels)} {number(value)}\n" for labels, value in series()),
            )
        )

    def counter(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A counter with one series, and its `_created` gauge."""
        self.counters(name, text, [(self.labels, value)])

    def counters(self, name: str, text: str, series: list[tuple[Mapping[str, str], Callable[[], float]]]) -> None:
        """A counter with several series; `name` without `_total`."""
        total = f"{name}_total"
        self._add(name, _header(total, text, "counter"), [(total + labels_text(labels), value) for labels, value in series])
        self._created(name, text, [labels for labels, _ in series])

    def histogram(self, name: str, text: str, histogram: Histogram) -> None:
        """A histogram with one series, and its `_created` gauge."""
        header = _header(name, text, "histogram")
        bounds = [*(number(bound) for bound in histogram.bounds), "+Inf"]
        buckets = [f"{name}_bucket{labels_text({**self.labels, 'le': bound})} " for bound in bounds]
        tail = labels_text(self.labels)

        def write() -> str:
            parts = [header]
            seen = 0
            for prefix, count in zip(buckets, histogram.counts, strict=True):
                seen += count
                parts.append(f"{prefix}{number(seen)}\n")
            parts.append(f"{name}_count{tail} {number(seen)}\n{name}_sum{tail} {number(histogram.total)}\n")
            return "".join(parts)

        self._families.append((name, write))
        self._created(name, text, [self.labels])

    def fixed(self, name: str, text: str) -> None:
        """A family that never changes, already written."""
        self._families.append((name, lambda: text))

    def render(self, names: frozenset[str] | None = None) -> bytes:
        """The page, or only the families of these names."""
        return "".join([write() for name, write in self._families if names is None or name in names]).encode()

    def _add(self, name: str, header: str, series: list[tuple[str, Callable[[], float]]]) -> None:
        self._families.append((name, lambda: header + "".join([f"{prefix} {number(value())}\n" for prefix, value in series])))

    def _created(self, name: str, text: str, series: list[Mapping[str, str]]) -> None:
        created = f"{name}_created"
        lines = "".join(f"{created}{labels_text(labels)} {number(self.created)}\n" for labels in series)
        self.fixed(created, _header(created, text, "gauge") + lines)


def _header(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
