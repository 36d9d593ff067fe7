"""What each page of the metrics listener shows."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from warmroute._core import Engine
from warmroute.metrics.collector import MetricsPage
from warmroute.metrics.server import Page, Request, Route

_STATE_ENTRIES = 100
_DECISIONS, _MOST_DECISIONS = 20, 1000


def routes(
    engine: Engine,
    page: MetricsPage,
    *,
    plugin_types: Callable[[], Mapping[str, str]],
    scraper_states: Callable[[], list[dict[str, Any]]],
    kv_event_states: Callable[[], list[dict[str, Any]]],
    config_state: Callable[[], dict[str, Any]],
    is_ready: Callable[[], bool],
) -> dict[str, Route]:
    """The pages by path. `plugin_types`: name to type of the plugins that run now. `/healthz` answers as readiness does: 200 when ready, 503 otherwise."""

    def metrics(request: Request) -> Page:
        body, content_type = page.render(request.accept)
        return Page(body, content_type)

    def healthz(_: Request) -> Page:
        ready = is_ready()
        return Page.json({"ready": ready}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    def decisions(request: Request) -> Page:
        return Page.json(engine.decisions(request.number("limit", _DECISIONS, _MOST_DECISIONS)))

    return {
        "/metrics": metrics,
        "/healthz": healthz,
        "/debug/config": lambda _: Page.json(config_state()),
        "/debug/endpoints": lambda _: Page.json(engine.endpoints()),
        "/debug/decisions": decisions,
        "/debug/kv-events": lambda _: Page.json(kv_event_states()),
        "/debug/scraper": lambda _: Page.json(scraper_states()),
        "/debug/plugins/state": lambda _: Page.json(plugins_state(engine, plugin_types())),
    }


def plugins_state(engine: Engine, plugin_types: Mapping[str, str]) -> dict[str, Any]:
    """`/debug/plugins/state` in the reference's shape; lists are cut after 100 entries."""
    endpoints = engine.endpoints()
    plugins: dict[str, dict[str, Any]] = {}
    for name, plugin_type in plugin_types.items():
        entry: dict[str, Any] = {"name": name, "type": plugin_type}
        state = _state(plugin_type, endpoints)
        entry |= {"message": "no state to show"} if state is None else {"state": state}
        plugins[name] = entry
    return {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"), "plugins": plugins}


def _state(plugin_type: str, endpoints: list[dict[str, Any]]) -> dict[str, Any] | None:
    columns = {
        "approx-prefix-cache-producer": ("indexed_blocks", "num_blocks", "block_size"),
        "token-load-scorer": ("inflight_requests", "inflight_tokens"),
        "marginal-latency-scorer": ("inflight_requests", "prefill_tokens"),
        "file-discovery": ("namespace", "labels"),
        "core-metrics-extractor": ("waiting", "running", "kv_usage", "metrics_age"),
    }.get(plugin_type)
    if columns is None:
        return None
    shown = [
        {"name": endpoint["name"], "address": endpoint["address"]} | {column: endpoint[column] for column in columns}
        for endpoint in endpoints[:_STATE_ENTRIES]
    ]
    return {"endpoints": shown, "total": len(endpoints)}
