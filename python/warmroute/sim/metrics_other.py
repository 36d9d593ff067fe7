"""Metrics pages of the other engines, reduced to the families that a gateway reads (reference, §6.3). None of them names a rank."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .exposition import Page

if TYPE_CHECKING:
    from .config import SimConfig
    from .engine import SimulatedEngine


def sglang_page(config: SimConfig, engine: SimulatedEngine, _rank: int = 0) -> Page:
    """SGLang."""
    page = Page({"model_name": config.models[0]}, time.time())
    statistics = engine.statistics
    page.gauge("sglang:num_running_reqs", "The number of running requests.", lambda: len(engine.running))
    page.gauge("sglang:num_queue_reqs", "The number of requests in the waiting queue.", lambda: len(engine.waiting))
    page.gauge("sglang:token_usage", "The token usage.", lambda: engine.cache.usage)
    page.counter("sglang:prompt_tokens", "Number of prefill tokens processed.", lambda: statistics.prompt_tokens)
    page.counter("sglang:generation_tokens", "Number of generation tokens processed.", lambda: statistics.generation_tokens)
    page.histogram(
        "sglang:time_to_first_token_seconds",
        "Histogram of time to first token in seconds.",
        statistics.time_to_first_token,
    )
    page.gauge(
        "sglang:cache_config_info",
        "Information of the cache configuration.",
        lambda: 1.0,
        page_size=str(engine.settings.block_size),
        num_pages=str(engine.settings.num_gpu_blocks),
    )
    return page


def trtllm_page(config: SimConfig, engine: SimulatedEngine, _rank: int = 0) -> Page:
    """`trtllm-serve`."""
    page = Page({"model_name": config.models[0], "engine_type": "pytorch"}, time.time())
    settings = engine.settings
    page.gauge("trtllm_num_requests_running", "Number of running requests.", lambda: len(engine.running))
    page.gauge("trtllm_num_requests_waiting", "Number of waiting requests.", lambda: len(engine.waiting))
    page.gauge("trtllm_kv_cache_utilization", "KV cache utilization.", lambda: engine.cache.usage)
    page.gauge("trtllm_kv_cache_tokens_per_block", "Tokens per KV cache block.", lambda: settings.block_size)
    page.gauge("trtllm_kv_cache_max_blocks", "Number of KV cache blocks.", lambda: settings.num_gpu_blocks)
    return page


def triton_page(config: SimConfig, engine: SimulatedEngine, _rank: int = 0) -> Page:
    """Triton with the TensorRT-LLM backend."""
    labels = {"model": config.models[0], "version": "1"}
    page = Page(labels, time.time())
    settings = engine.settings
    page.gauges(
        "nv_trt_llm_request_metrics",
        "TRT LLM request metrics",
        [
            ({**labels, "request_type": "waiting"}, lambda: len(engine.waiting)),
            ({**labels, "request_type": "scheduled"}, lambda: len(engine.running)),
            ({**labels, "request_type": "active"}, lambda: len(engine.running) + len(engine.waiting)),
            ({**labels, "request_type": "max"}, lambda: settings.max_num_seqs),
        ],
    )
    page.gauges(
        "nv_trt_llm_kv_cache_block_metrics",
        "TRT LLM KV cache block metrics",
        [
            ({**labels, "kv_cache_block_type": "fraction"}, lambda: engine.cache.usage),
            ({**labels, "kv_cache_block_type": "tokens_per"}, lambda: settings.block_size),
            ({**labels, "kv_cache_block_type": "max"}, lambda: settings.num_gpu_blocks),
            ({**labels, "kv_cache_block_type": "used"}, lambda: engine.cache.used_blocks),
            ({**labels, "kv_cache_block_type": "free"}, lambda: engine.cache.free_blocks),
        ],
    )
    return page
