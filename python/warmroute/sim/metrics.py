"""The metrics page of a replica as its engine would serve it: which paths, which page, which filter."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .metrics_other import sglang_page, triton_page, trtllm_page
from .metrics_padding import pad
from .metrics_vllm import vllm_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .config import SimConfig
    from .engine import SimulatedEngine
    from .exposition import Page

PAGES: dict[str, Callable[[SimConfig, SimulatedEngine, int], Page]] = {
    "vllm": vllm_page,
    "sglang": sglang_page,
    "trtllm-serve": trtllm_page,
    "triton-tensorrt-llm": triton_page,
}

# Behind the mount that both use, `/metrics/` reaches the application with the query; `/metrics` does not.
FILTERED_PATHS = {"vllm": "/metrics/", "sglang": "/metrics/"}
PLAIN_PATHS = {
    "vllm": ("/metrics",),
    "sglang": ("/metrics",),
    # trtllm-serve has its page here; `/metrics` (JSON there) is served as well, for gateways that are not told.
    "trtllm-serve": ("/prometheus/metrics", "/metrics"),
    "triton-tensorrt-llm": ("/metrics",),
}
MAX_FILTERS = 8
"""Different filters whose last answer is kept."""


class Metrics:
    """Writes the page, again only when the engine has moved."""

    def __init__(self, config: SimConfig, engine: SimulatedEngine, rank: int = 0) -> None:
        """The page of one replica, which is this data-parallel rank."""
        self._engine = engine
        self._page = PAGES[config.engine](config, engine, rank)
        if config.metrics_padding and config.engine == "vllm":
            pad(self._page, config.metrics_padding)
        self._filtered = FILTERED_PATHS.get(config.engine)
        self.paths = frozenset((*PLAIN_PATHS[config.engine], *([self._filtered] if self._filtered else [])))
        self._written: OrderedDict[frozenset[str] | None, tuple[int, bytes]] = OrderedDict()

    def answer(self, path: str, names: Sequence[str]) -> bytes:
        """The page; `names` are the values of `name[]`, heeded only on the path that filters."""
        wanted = frozenset(names) if names and path == self._filtered else None
        known = self._written.get(wanted)
        if known is not None and known[0] == self._engine.version:
            return known[1]
        version = self._engine.version
        page = self._page.render(wanted)
        self._written[wanted] = (version, page)
        if len(self._written) > MAX_FILTERS:
            self._written.popitem(last=False)
        return page
