"""How right the prefix index is: what engines found in their caches, against what was expected when requests were sent."""

from collections.abc import Sequence
from typing import Any

from warmroute.metrics.families import PREFIX, Family, Sample

_LABELS = ("endpoint_name", "namespace")
_FAMILIES = (
    ("prefix_sent_tokens_total", "counter", "prompt_tokens", "Prompt tokens of the requests that were sent to the endpoint."),
    ("prefix_expected_tokens_total", "counter", "matched_tokens", "Those of them that the prefix index expected in its cache."),
    ("prefix_queried_tokens_total", "counter", "queried_tokens", "Prompt tokens that the engine looked up in its prefix cache, by its own metrics."),
    ("prefix_cached_tokens_total", "counter", "cached_tokens", "Those of them that it found there, by its own metrics."),
    (
        "prefix_cache_drift",
        "gauge",
        "cache_drift",
        (
            "Share of prompt tokens that the engine found in its cache less the share that the prefix index expected, over the last minute: "
            "0 is right, -1 all expected and nothing found."
        ),
    ),
)


def prefix_families(endpoints: Sequence[dict[str, Any]]) -> list[Family]:
    """Five families with a series for each endpoint that tells. `endpoints` as from `_core.Engine.endpoints()`."""
    families = []
    for name, kind, column, text in _FAMILIES:
        samples = [Sample((row["name"], row["namespace"]), float(row[column])) for row in endpoints if row[column] is not None]
        families.append(Family(PREFIX + name, kind, f"[ALPHA] {text}", _LABELS, samples))
    return families
