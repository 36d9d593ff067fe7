"""What the extension is told: the JSON settings of `_core.Engine` and `_core.Scraper`."""

import json
from typing import Any

from warmroute.config.defaults import Plan
from warmroute.config.flags import Flags
from warmroute.config.plugins import Kind

# Budget of the approximate prefix index. At some 60 bytes per block and endpoint it holds four million of them.
INDEX_BYTES = 256 * 1024 * 1024
# Decisions kept for /debug/decisions when --explain is given.
DECISIONS_KEPT = 1000
# The reference's HTTP client gives a page 10 s; a dispatch of its tick 1 s. One page later than that is stale anyway.
_SCRAPE_TIMEOUT_SECONDS = 1.0
# An endpoint on which nothing happens is asked at least this often, which keeps it fresh within the default staleness threshold of 2 s.
_IDLE_BACKOFF_SECONDS = 1.0


def engine_settings(plan: Plan, flags: Flags) -> str:
    """Settings of `_core.Engine` as JSON."""
    settings: dict[str, Any] = {
        "max_body_bytes": flags.max_body,
        "max_endpoints": plan.max_endpoints if flags.max_endpoints is None else flags.max_endpoints,
        "subset_filter": not flags.disable_endpoint_subset_filter,
        "emit_endpoint_scores": flags.emit_endpoint_scores,
        "explain": flags.explain,
        "response_usage": flags.response_usage,
        "stream_metrics": flags.enable_grpc_stream_metrics,
        "index_bytes": INDEX_BYTES,
        "decisions_kept": DECISIONS_KEPT if flags.explain else 0,
    }
    return json.dumps(settings)


def policy_settings(plan: Plan) -> str:
    """The policy of `_core.Engine` as JSON."""
    prefix = plan.prefix.model_dump(by_alias=True)
    plugins: list[dict[str, Any]] = [{"type": "approx-prefix-cache-producer", "parameters": prefix}]
    entries: list[dict[str, Any]] = []
    for entry in plan.profile:
        plugin = entry.plugin
        # The engine gets the length of the destination list once, as `max_endpoints`.
        parameters = plugin.parameters.model_dump(by_alias=True, exclude_unset=True, exclude={"max_num_of_endpoints"})
        plugins.append({"type": plugin.type, "name": plugin.name, "parameters": parameters})
        entries.append({"plugin": plugin.name} | ({"weight": entry.weight} if plugin.kind is Kind.SCORER else {}))
    profiles = [{"name": "default", "plugins": entries}]
    return json.dumps({"plugins": plugins, "profiles": profiles, "min_block_tokens": plan.min_block_tokens})


def scraper_settings(plan: Plan, flags: Flags) -> str | None:
    """Settings of `_core.Scraper` as JSON; None when the configuration collects no metrics."""
    if plan.source is None:
        return None
    interval = flags.refresh_metrics_interval if plan.source_interval is None else plan.source_interval
    extractor = {
        "name": "core-metrics-extractor",
        "type": "core-metrics-extractor",
        "engine_label_key": plan.extractor.engine_label_key,
        "default_engine": plan.extractor.default_engine,
        "engines": [engine.model_dump(by_alias=True, exclude_none=True) for engine in plan.extractor.engine_configs],
    }
    source = {
        "name": "metrics-data-source",
        "type": "metrics-data-source",
        "scheme": plan.source.scheme,
        "path": plan.source.path,
        "filter": True,
        "extractors": [extractor],
    }
    settings: dict[str, Any] = {
        "interval_seconds": interval,
        "timeout_seconds": _SCRAPE_TIMEOUT_SECONDS,
        "idle_backoff_seconds": max(interval, min(_IDLE_BACKOFF_SECONDS, flags.metrics_staleness_threshold / 2)),
        "sources": [source],
    }
    return json.dumps(settings)
