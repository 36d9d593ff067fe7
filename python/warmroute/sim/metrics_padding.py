"""Further families of a real vLLM page, with constant values, to make a page as long as a real one.

What a scraper pays depends on the bytes it has to look through, so a short page would flatter it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .exposition import labels_text, number

if TYPE_CHECKING:
    from .exposition import Page

_BUCKETS = ("0.1", "0.5", "1.0", "+Inf")
_HANDLERS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/models",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/tokenize",
    "/detokenize",
    "/health",
    "/version",
)
_FLOPS = "(for Model Flops Utilization calculations)."
_COUNTERS = (
    ("estimated_flops_per_gpu", f"Estimated number of floating point operations per GPU {_FLOPS}"),
    ("estimated_read_bytes_per_gpu", f"Estimated number of bytes read from memory per GPU {_FLOPS}"),
    ("estimated_write_bytes_per_gpu", f"Estimated number of bytes written to memory per GPU {_FLOPS}"),
    ("mm_cache_queries", "Multi-modal cache queries, in terms of number of queried items."),
    ("mm_cache_hits", "Multi-modal cache hits, in terms of number of cached items."),
)


def pad(page: Page, size: int) -> None:
    """Add families until the page has at least `size` bytes; handlers of the HTTP families are repeated as needed."""
    for counter, meaning in _COUNTERS:
        page.counter(f"vllm:{counter}", meaning, lambda: 0.0)
    missing = size - len(page.render())
    name = "http_request_duration_seconds"
    text = "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. "
    parts = [f"# HELP {name} {text}\n# TYPE {name} histogram\n"]
    written = len(parts[0])
    index = 0
    while written < missing:
        handler = _HANDLERS[index % len(_HANDLERS)]
        turn = index // len(_HANDLERS)
        part = _duration(name, handler if not turn else f"{handler}/{turn}", float(index))
        parts.append(part)
        written += len(part)
        index += 1
    if index:
        page.fixed(name, "".join(parts))


def _duration(name: str, handler: str, count: float) -> str:
    labels = {"handler": handler, "method": "POST"}
    tail = labels_text(labels)
    lines = [f"{name}_bucket{labels_text({**labels, 'le': bound})} {number(count)}\n" for bound in _BUCKETS]
    return "".join([*lines, f"{name}_count{tail} {number(count)}\n{name}_sum{tail} {number(count * 0.137)}\n"])
