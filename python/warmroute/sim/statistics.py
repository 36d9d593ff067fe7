"""What a replica counts while it runs; the metrics page is written from it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

FIRST_TOKEN_SECONDS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_SECONDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_SECONDS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
STEP_TOKENS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)


def token_buckets(max_model_len: int) -> tuple[float, ...]:
    """Upper bounds 1, 2, 5, 10, … up to the longest sequence (vLLM's choice for token histograms)."""
    bounds: list[float] = []
    decade = 1
    while decade <= max_model_len:
        bounds.extend(float(decade * step) for step in (1, 2, 5) if decade * step <= max_model_len)
        decade *= 10
    return tuple(bounds)


class Histogram:
    """Counts per bucket (upper bounds inclusive, +Inf last), and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` ascending, without +Inf."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """Values observed."""
        return sum(self.counts)


@dataclass(slots=True)
class Statistics:
    """Counters and histograms of one engine since its start."""

    max_model_len: int
    prefix_cache_queries: int = 0
    """Tokens looked up in the prefix cache, each sequence once: a preempted one's second look is not counted, as in vLLM."""
    prefix_cache_hits: int = 0
    """Of these, tokens found on the GPU."""
    external_cache_queries: int = 0
    """Tokens looked up in the CPU: what the GPU did not have."""
    external_cache_hits: int = 0
    """Of these, tokens found."""
    preemptions: int = 0
    prompt_tokens: int = 0
    """Prompt tokens of requests that got their first token."""
    prompt_tokens_cached: int = 0
    """Of these, tokens that came from the cache (GPU or CPU)."""
    prompt_tokens_loaded: int = 0
    """Of these, tokens that came from the CPU."""
    generation_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error", "repetition"), 0))
    """Requests by the reason for which they ended."""
    request_prompt_tokens: Histogram = field(init=False)
    request_generation_tokens: Histogram = field(init=False)
    request_max_tokens: Histogram = field(init=False)
    request_prefill_computed: Histogram = field(init=False)
    step_tokens: Histogram = field(default_factory=lambda: Histogram(STEP_TOKENS))
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    inter_token: Histogram = field(default_factory=lambda: Histogram(TOKEN_SECONDS))
    time_per_output_token: Histogram = field(default_factory=lambda: Histogram(TOKEN_SECONDS))
    end_to_end: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    queue: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    inference: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    prefill: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    decode: Histogram = field(default_factory=lambda: Histogram(REQUEST_SECONDS))
    request_preemptions: Histogram = field(default_factory=lambda: Histogram(PREEMPTIONS))

    def __post_init__(self) -> None:
        """Histograms whose bounds depend on the longest sequence."""
        bounds = token_buckets(self.max_model_len)
        self.request_prompt_tokens = Histogram(bounds)
        self.request_generation_tokens = Histogram(bounds)
        self.request_max_tokens = Histogram(bounds)
        self.request_prefill_computed = Histogram(bounds)
