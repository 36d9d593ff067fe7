"""What the extension is told: the JSON settings of `_core.Engine` and `_core.Scraper`."""

import json
from typing import Any

from warmroute.config.flags import Flags
from warmroute.config.known_types import FILTER, PICKER, SCORER
from warmroute.config.load import Plugin
from warmroute.config.plan import Plan, Profile, Source
from warmroute.config.plugins import DEFAULT_PARSERS, CoreMetricsExtractor

# Budget of the approximate prefix index. At some 60 bytes per block and endpoint it holds four million of them.
INDEX_BYTES = 256 * 1024 * 1024
# Decisions kept for /debug/decisions when --explain is given.
DECISIONS_KEPT = 1000
# The reference's HTTP client gives a page 10 s; a dispatch of its tick 1 s. One page later than that is stale anyway.
_SCRAPE_TIMEOUT_SECONDS = 1.0
# An endpoint on which nothing happens is asked at least this often, which keeps it fresh within the default staleness threshold of 2 s.
_IDLE_BACKOFF_SECONDS = 1.0


def engine_settings(flags: Flags) -> str:
    """Settings of `_core.Engine` as JSON."""
    settings: dict[str, Any] = {
        "max_body_bytes": flags.max_body,
        # Where the picker's own maxNumOfEndpoints does not say.
        "max_endpoints": flags.max_endpoints or 1,
        "subset_filter": not flags.disable_endpoint_subset_filter,
        "emit_endpoint_scores": flags.emit_endpoint_scores,
        "explain": flags.explain,
        "response_usage": flags.response_usage,
        "response_sample": flags.response_sample,
        "stream_metrics": flags.enable_grpc_stream_metrics,
        "index_bytes": INDEX_BYTES,
        "decisions_kept": DECISIONS_KEPT if flags.explain else 0,
        "record_sample": None if flags.record_decisions is None else flags.record_sample,
    }
    return json.dumps(settings)


def policy_settings(plan: Plan) -> str:
    """The policy of `_core.Engine` as JSON."""
    policy: dict[str, Any] = {
        "plugins": [_plugin(plugin) for plugin in plan.plugins],
        "profiles": [_profile(profile) for profile in plan.profiles],
        "saturation_detector": plan.saturation_detector,
        "min_block_tokens": plan.min_block_tokens,
    }
    if plan.parsers != DEFAULT_PARSERS:
        policy["parsers"] = list(plan.parsers)
    return json.dumps(policy)


def _plugin(plugin: Plugin) -> dict[str, Any]:
    named = {"type": plugin.type.name, "name": plugin.name}
    # What a plugin in Python is set to, its function knows.
    return named if plugin.type.definition is not None else {**named, "parameters": plugin.parameters.given}


def _profile(profile: Profile) -> dict[str, Any]:
    entries = [
        {"plugin": entry.plugin.name} | ({"weight": entry.weight} if entry.weight is not None else {})
        for entry in profile.entries
        if entry.plugin.has(FILTER, SCORER, PICKER)
    ]
    return {"name": profile.name, "plugins": entries}


def scraper_settings(plan: Plan, flags: Flags) -> str | None:
    """Settings of `_core.Scraper` as JSON; None when the configuration collects no metrics."""
    if not plan.sources:
        return None
    interval = flags.refresh_metrics_interval
    settings: dict[str, Any] = {
        "interval_seconds": interval,
        "timeout_seconds": _SCRAPE_TIMEOUT_SECONDS,
        "idle_backoff_seconds": max(interval, min(_IDLE_BACKOFF_SECONDS, flags.metrics_staleness_threshold / 2)),
        "sources": [_source(source) for source in plan.sources],
    }
    return json.dumps(settings)


def _source(source: Source) -> dict[str, Any]:
    values = source.plugin.parameters.values
    return {
        "name": source.plugin.name,
        "type": source.plugin.type.name,
        "scheme": values["scheme"],
        "path": values["path"],
        "port": values.get("port"),
        "interval_seconds": source.interval,
        "insecure_skip_verify": values["insecureSkipVerify"],
        "ca_cert_path": values.get("caCertPath"),
        "client_cert_path": values.get("clientCertPath"),
        "client_key_path": values.get("clientKeyPath"),
        "extractors": [_extractor(extractor) for extractor in source.extractors],
    }


def _extractor(extractor: Plugin) -> dict[str, Any]:
    settings: dict[str, Any] = {"name": extractor.name, "type": extractor.type.name}
    model = extractor.parameters.model
    if isinstance(model, CoreMetricsExtractor):
        settings |= {
            "engine_label_key": model.engine_label_key,
            "default_engine": model.default_engine,
            "engines": [engine.model_dump(by_alias=True, exclude_none=True) for engine in model.engine_configs],
        }
    return settings
