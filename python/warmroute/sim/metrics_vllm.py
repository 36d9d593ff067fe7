"""vLLM's metrics page: names, labels, types, buckets and help texts of the recorded 0.32 page."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from .exposition import Page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .config import SimConfig
    from .engine import SimulatedEngine

MAX_LORA_SERIES = 64
"""Sets of adapters that `lora_requests_info` keeps (the real engine keeps all it ever saw)."""


_CACHED_BY_SOURCE = (
    "Prefix-cache hit tokens by the cache tier that supplied them: device (local HBM), host (offloaded to DRAM), disk, p2p "
    "(transferred from another vLLM instance) or external_unspecified. Counted at admission; sums to vllm:prefix_cache_hits + "
    "vllm:external_prefix_cache_hits."
)


def vllm_page(config: SimConfig, engine: SimulatedEngine, rank: int = 0) -> Page:
    """The page of one replica, which is this data-parallel rank."""
    page = Page({"engine": str(rank), "model_name": config.models[0]}, time.time())
    _load(page, engine)
    _tokens(page, engine)
    _histograms(page, engine)
    if config.loras or engine.settings.max_loras:
        page.changing_gauge("vllm:lora_requests_info", "Running stats on lora requests.", LoraSeries(engine).current)
    page.gauges(
        "vllm:cache_config_info",
        "Information of the LLMEngine CacheConfig",
        [(_cache_config(engine, rank), lambda: 1.0)],
    )
    return page


class LoraSeries:
    """One series per set of running and waiting adapters ever seen, valued with the time it last held."""

    def __init__(self, engine: SimulatedEngine) -> None:
        """Follow an engine."""
        self._engine = engine
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._version = -1

    def current(self) -> list[tuple[Mapping[str, str], float]]:
        """All series; the one with the largest value is what holds now."""
        engine = self._engine
        if engine.version != self._version:
            self._version = engine.version
            now = (",".join(engine.running_adapters()), ",".join(engine.waiting_adapters()))
            self._seen[now] = time.time()
            self._seen.move_to_end(now)
            if len(self._seen) > MAX_LORA_SERIES:
                self._seen.popitem(last=False)
        maximum = str(engine.settings.max_loras)
        return [
            ({"max_lora": maximum, "running_lora_adapters": running, "waiting_lora_adapters": waiting}, value)
            for (running, waiting), value in self._seen.items()
        ]


def _load(page: Page, engine: SimulatedEngine) -> None:
    page.gauge("vllm:num_requests_running", "Number of requests in model execution batches.", lambda: len(engine.running))
    page.gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", lambda: len(engine.waiting))
    page.gauges(
        "vllm:num_requests_waiting_by_reason",
        "Number of waiting requests by reason. Reason labels: 'capacity' = waiting for scheduling capacity; 'deferred' "
        "= deferred by transient constraints (LoRA budget, KV transfer, blocked status). Sum of all reasons equals "
        "vllm:num_requests_waiting.",
        [
            ({**page.labels, "reason": "capacity"}, lambda: len(engine.waiting) - _deferred(engine)),
            ({**page.labels, "reason": "deferred"}, lambda: _deferred(engine)),
        ],
    )
    page.gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", lambda: engine.cache.usage)


def _deferred(engine: SimulatedEngine) -> int:
    return min(engine.deferred, len(engine.waiting))


def _tokens(page: Page, engine: SimulatedEngine) -> None:
    statistics = engine.statistics
    page.counter(
        "vllm:prefix_cache_queries",
        "Prefix cache queries, in terms of number of queried tokens.",
        lambda: statistics.prefix_cache_queries,
    )
    page.counter(
        "vllm:prefix_cache_hits",
        "Prefix cache hits, in terms of number of cached tokens.",
        lambda: statistics.prefix_cache_hits,
    )
    shared = "External prefix cache {} from KV connector cross-instance cache sharing, in terms of number of {} tokens."
    page.counter("vllm:external_prefix_cache_queries", shared.format("queries", "queried"), lambda: statistics.external_cache_queries)
    page.counter("vllm:external_prefix_cache_hits", shared.format("hits", "cached"), lambda: statistics.external_cache_hits)
    page.counter("vllm:num_preemptions", "Cumulative number of preemption from the engine.", lambda: statistics.preemptions)
    page.counter("vllm:prompt_tokens", "Number of prefill tokens processed.", lambda: statistics.prompt_tokens)
    page.counters(
        "vllm:prompt_tokens_by_source",
        "Number of prompt tokens by source.",
        [
            (
                {**page.labels, "source": "local_compute"},
                lambda: statistics.prompt_tokens - statistics.prompt_tokens_cached,
            ),
            (
                {**page.labels, "source": "local_cache_hit"},
                lambda: statistics.prompt_tokens_cached - statistics.prompt_tokens_loaded,
            ),
            ({**page.labels, "source": "external_kv_transfer"}, lambda: statistics.prompt_tokens_loaded),
        ],
    )
    page.counter(
        "vllm:prompt_tokens_cached",
        "Number of cached prompt tokens (local + external).",
        lambda: statistics.prompt_tokens_cached,
    )
    sources: dict[str, Callable[[], float]] = {
        "device": lambda: statistics.prefix_cache_hits,
        "host": lambda: statistics.external_cache_hits,
        "p2p": _nothing,
        "disk": _nothing,
        "external_unspecified": _nothing,
    }
    page.counters(
        "vllm:prompt_tokens_cached_by_source",
        _CACHED_BY_SOURCE,
        [({**page.labels, "source": source}, value) for source, value in sources.items()],
    )
    page.counter("vllm:generation_tokens", "Number of generation tokens processed.", lambda: statistics.generation_tokens)
    page.counters(
        "vllm:request_success",
        "Count of successfully processed requests.",
        [({**page.labels, "finished_reason": reason}, _count(statistics.finished, reason)) for reason in statistics.finished],
    )


def _nothing() -> float:
    return 0.0


def _count(counts: Mapping[str, int], key: str) -> Callable[[], float]:
    return lambda: counts[key]


def _histograms(page: Page, engine: SimulatedEngine) -> None:
    statistics = engine.statistics
    for name, text, histogram in (
        ("request_prompt_tokens", "Number of prefill tokens processed.", statistics.request_prompt_tokens),
        ("request_generation_tokens", "Number of generation tokens processed.", statistics.request_generation_tokens),
        ("iteration_tokens_total", "Histogram of number of tokens per engine_step.", statistics.step_tokens),
        ("request_params_max_tokens", "Histogram of the max_tokens request parameter.", statistics.request_max_tokens),
        (
            "time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            statistics.time_to_first_token,
        ),
        ("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", statistics.inter_token),
        (
            "request_time_per_output_token_seconds",
            "Histogram of time_per_output_token_seconds per request.",
            statistics.time_per_output_token,
        ),
        ("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", statistics.end_to_end),
        (
            "request_queue_time_seconds",
            "Histogram of time spent in WAITING phase for request.",
            statistics.queue,
        ),
        (
            "request_inference_time_seconds",
            "Histogram of time spent in RUNNING phase for request.",
            statistics.inference,
        ),
        (
            "request_prefill_time_seconds",
            "Histogram of time spent in PREFILL phase for request.",
            statistics.prefill,
        ),
        (
            "request_decode_time_seconds",
            "Histogram of time spent in DECODE phase for request.",
            statistics.decode,
        ),
        (
            "request_num_preemptions",
            "Histogram of the number of times a request was preempted.",
            statistics.request_preemptions,
        ),
        (
            "request_prefill_kv_computed_tokens",
            "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
            statistics.request_prefill_computed,
        ),
    ):
        page.histogram(f"vllm:{name}", text, histogram)


def _cache_config(engine: SimulatedEngine, rank: int) -> dict[str, str]:
    """Labels of `cache_config_info`: all that the real page has, with the values of a plain Llama."""
    settings = engine.settings
    tokens = settings.num_gpu_blocks * settings.block_size
    same = dict.fromkeys(
        (
            "cache_hit_alignment_tokens",
            "hash_block_size",
            "kv_cache_layout",
            "kv_offloading_size",
            "mamba_block_size",
            "mamba_page_size_padded",
            "num_cpu_blocks",
            "num_gpu_blocks_override",
            "prefix_match_unit",
            "skip_page_size_padded",
            "sliding_window",
            "kv_cache_memory_bytes",
        ),
        "None",
    )
    return same | {
        "_block_size_resolved": "True",
        "block_size": str(settings.block_size),
        "cache_dtype": "auto",
        "effective_attention_block_size": str(settings.block_size),
        "enable_mamba_shared_prefix_checkpoint": "False",
        "enable_prefix_caching": "True",
        "engine": str(rank),
        "gpu_memory_utilization": "0.92",
        "is_attention_free": "False",
        "kv_cache_dtype_skip_layers": "[]",
        "kv_cache_max_concurrency": str(tokens / settings.max_model_len),
        "kv_cache_size_tokens": str(tokens),
        "kv_offloading_backend": "native",
        "kv_sharing_fast_prefill": "False",
        "mamba_cache_dtype": "auto",
        "mamba_cache_mode": "none",
        "mamba_ssm_cache_dtype": "float32",
        "num_gpu_blocks": str(settings.num_gpu_blocks),
        "prefix_cache_retention_interval": "0",
        "prefix_caching_hash_algo": "sha256",
        "replayssm_buffer_len": "16",
        "swa_bounded_replay": "True",
        "use_kda_recoverssm": "False",
        "use_replayssm": "False",
        "user_specified_block_size": "False",
    }
