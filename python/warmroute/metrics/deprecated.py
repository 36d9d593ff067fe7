"""The reference's deprecated metric names, as twins of the current ones. Served only with --deprecated-metrics."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from warmroute.metrics.families import PREFIX, Family, aggregate


@dataclass(frozen=True, slots=True)
class Twin:
    """An old name. `labels`: which of the current labels it keeps (None: all), and what it calls those it renames."""

    name: str
    labels: tuple[str, ...] | None = None
    renamed: Mapping[str, str] | None = None


_MODEL = ("model_name", "target_model_name")
_OBJECTIVE = "inference_objective_"
_POOL = "inference_pool_"
_EXTENSION = "inference_extension_"
_SCHEDULER = "llm_d_inference_scheduler_"

# Current name (without prefix) to its twin: endpoint-picker.md 8.1, 8.2 and 8.4.
TWINS: dict[str, Twin] = {
    "request_total": Twin(f"{_OBJECTIVE}request_total", (*_MODEL, "priority")),
    "request_error_total": Twin(f"{_OBJECTIVE}request_error_total", (*_MODEL, "error_code")),
    "request_duration_seconds": Twin(f"{_OBJECTIVE}request_duration_seconds", _MODEL),
    "request_size_bytes": Twin(f"{_OBJECTIVE}request_sizes", _MODEL),
    "response_size_bytes": Twin(f"{_OBJECTIVE}response_sizes", _MODEL),
    "request_input_tokens": Twin(f"{_OBJECTIVE}input_tokens", _MODEL),
    "request_output_tokens": Twin(f"{_OBJECTIVE}output_tokens", _MODEL),
    "request_cached_tokens": Twin(f"{_OBJECTIVE}prompt_cached_tokens", _MODEL),
    "request_running": Twin(f"{_OBJECTIVE}running_requests", ("model_name",)),
    "request_ntpot_seconds": Twin(f"{_OBJECTIVE}normalized_time_per_output_token_seconds", _MODEL),
    "average_kv_cache_utilization": Twin(f"{_POOL}average_kv_cache_utilization"),
    "average_queue_size": Twin(f"{_POOL}average_queue_size"),
    "average_running_requests": Twin(f"{_POOL}average_running_requests"),
    "ready_endpoints": Twin(f"{_POOL}ready_pods"),
    # The old label is not in the specification's table; `model_server_pod` is what dashboards of the old name select by.
    "per_endpoint_queue_size": Twin(f"{_POOL}per_pod_queue_size", renamed={"model_server_endpoint": "model_server_pod"}),
    "scheduler_e2e_duration_seconds": Twin(f"{_EXTENSION}scheduler_e2e_duration_seconds"),
    "scheduler_attempts_total": Twin(f"{_EXTENSION}scheduler_attempts_total", renamed={"endpoint_name": "pod_name"}),
    "plugin_duration_seconds": Twin(f"{_EXTENSION}plugin_duration_seconds"),
    "info": Twin(f"{_EXTENSION}info"),
    "model_rewrite_decisions_total": Twin(f"{_EXTENSION}model_rewrite_decisions_total"),
    "prefix_indexer_size": Twin(f"{_EXTENSION}prefix_indexer_size"),
    "prefix_indexer_hit_ratio": Twin(f"{_EXTENSION}prefix_indexer_hit_ratio"),
    "prefix_indexer_hit_bytes": Twin(f"{_EXTENSION}prefix_indexer_hit_bytes"),
    **{
        f"kv_cache_index_{name}": Twin(f"kvcache_index_{name}")
        for name in (
            "admissions_total",
            "evictions_total",
            "lookup_requests_total",
            "lookup_hits_total",
            "max_pod_hit_count_total",
            "lookup_latency_seconds",
        )
    },
    **{
        f"kv_cache_events_dedup_removed_hashes_{name}_total": Twin(f"kvcache_kvevents_dedup_removed_hashes_{name}_total")
        for name in ("suppressed", "forwarded")
    },
    "datalayer_poll_errors_total": Twin(f"{_SCHEDULER}datalayer_poll_errors_total"),
    "datalayer_extract_errors_total": Twin(f"{_SCHEDULER}datalayer_extract_errors_total"),
}


def with_twins(families: Iterable[Family]) -> Iterator[Family]:
    """Each family, followed by its twin where it has one."""
    for family in families:
        yield family
        twin = TWINS.get(family.name.removeprefix(PREFIX))
        if twin is not None:
            yield _twin(family, twin)


def _twin(family: Family, twin: Twin) -> Family:
    labels = family.label_names if twin.labels is None else twin.labels
    keep = [family.label_names.index(label) for label in labels]
    renamed = twin.renamed or {}
    text = f"[ALPHA] [Deprecated: Use {family.name}] {family.help.removeprefix('[ALPHA] ')}"
    names = tuple(renamed.get(label, label) for label in labels)
    return Family(twin.name, family.kind, text, names, list(aggregate(family.samples, keep)), family.bounds)
