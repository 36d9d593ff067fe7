"""The `usage` object of OpenAI-shaped answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sequence import Sequence

FINGERPRINT = "warmroute-sim"
"""`system_fingerprint` of every answer: nobody takes it for a real engine's."""


def prompt_tokens_of(sequences: list[Sequence], choices: int) -> int:
    """Prompt tokens, each prompt once however many choices it has."""
    return sum(sequence.prompt_tokens for sequence in sequences[::choices])


def cached_of(sequences: list[Sequence], choices: int = 1) -> int:
    """Cached prompt tokens, each prompt once."""
    return sum(sequence.cached_tokens for sequence in sequences[::choices])


def usage(sequences: list[Sequence], choices: int, *, streamed: bool = False) -> dict[str, Any]:
    """Tokens of a request. The details are what vLLM sends with `--enable-prompt-tokens-details`."""
    prompt = prompt_tokens_of(sequences, choices)
    completion = sum(sequence.generated for sequence in sequences)
    cached = cached_of(sequences, choices)
    details: dict[str, Any] = {"cached_tokens": cached}
    spent: dict[str, Any] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": details,
    }
    if streamed:
        details["created_cache_tokens"] = sum(sequence.created_tokens for sequence in sequences[::choices])
    else:
        details.update(created_cache_tokens=None, multimodal_tokens=None)
        spent["completion_tokens_details"] = None
    return spent
