"""The registry behind /metrics: the engine's counters, the pool's gauges, and the build's identity."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from warmroute.metrics.deprecated import with_twins
from warmroute.metrics.families import PREFIX, BoundText, Family, Sample, from_engine, go_float, to_prometheus


class StatsSource(Protocol):
    """The part of `_core.Engine` that the page reads."""

    def stats(self) -> list[dict[str, Any]]:
        """Every family of the engine."""


FamilySource = Callable[[], Iterable[Family]]


class MetricsPage:
    """Renders the page in the format that the client asks for."""

    def __init__(self, engine: StatsSource, sources: Iterable[FamilySource], build: str, *, deprecated: bool) -> None:
        """`sources`: families beside the engine's own. `build`: version for `info`. `deprecated`: add the old names."""
        self._engine = engine
        self._sources = tuple(sources)
        self._build = build
        self._deprecated = deprecated
        # Bucket bounds are written differently in the two formats, as Go's library does.
        self._text = self._registry(go_float)
        self._openmetrics = self._registry(floatToGoString)

    def _registry(self, bound_text: BoundText) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_PageCollector(self.families, bound_text))
        return registry

    def families(self) -> Iterator[Family]:
        """Every family, in page order. A name that the engine already tells is not told again."""
        families = [from_engine(stats) for stats in self._engine.stats()]
        names = {family.name for family in families}
        families += [family for source in self._sources for family in source() if family.name not in names]
        families.append(_info(self._build))
        return with_twins(families) if self._deprecated else iter(families)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its content type for an Accept header: OpenMetrics where asked for, else the text format."""
        encoder, content_type = choose_encoder(accept)
        if "openmetrics" in content_type:
            return encoder(self._openmetrics), content_type
        return generate_text(self._text), CONTENT_TYPE_PLAIN_0_0_4


class _PageCollector(Collector):
    def __init__(self, families: Callable[[], Iterator[Family]], bound_text: BoundText) -> None:
        self._families = families
        self._bound_text = bound_text

    def collect(self) -> Iterator[Metric]:
        for family in self._families():
            yield to_prometheus(family, self._bound_text)


def _info(build: str) -> Family:
    """Which build this is; the image's build sets WARMROUTE_COMMIT and WARMROUTE_BUILD_REF."""
    labels = os.environ.get("WARMROUTE_COMMIT", "unknown"), os.environ.get("WARMROUTE_BUILD_REF", build)
    return Family(f"{PREFIX}info", "gauge", "[ALPHA] The build of the picker.", ("commit", "build_ref"), [Sample(labels, 1.0)])
