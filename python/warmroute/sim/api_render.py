"""vLLM's render endpoints: the body of an API in, the tokens its prompt becomes out, and nothing is generated.

The answer is what vLLM's `POST /inference/v1/generate` takes. Prompts are made, and refused, by the same functions as
those of the API itself, so both always stand on the same tokens.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from . import prompts, tokenizer
from .generation import COMPLETION_DEFAULT_TOKENS, make_sequences, read_sampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from .call import Call
    from .generation import Sampling
    from .prompt import Prompt


async def completions(call: Call) -> web.StreamResponse:
    """`POST /v1/completions/render`: a list, one object per prompt."""
    body = call.json()
    model, _ = call.served(body)
    sampling = read_sampling(body, "max_tokens", default=COMPLETION_DEFAULT_TOKENS)
    found = prompts.completion_prompts(body)
    return await call.answer([_rendered(call, body, model, "cmpl", prompt, sampling) for prompt in found])


async def chat_completions(call: Call) -> web.StreamResponse:
    """`POST /v1/chat/completions/render`: one object."""
    body = call.json()
    model, _ = call.served(body)
    sampling = read_sampling(body, "max_completion_tokens", "max_tokens")
    return await call.answer(_rendered(call, body, model, "chatcmpl", prompts.chat_prompt(body), sampling))


def _rendered(  # noqa: PLR0917 - one value per field of the answer
    call: Call, body: Mapping[str, Any], model: str, kind: str, prompt: Prompt, sampling: Sampling
) -> dict[str, Any]:
    # What could not be served is refused here already, with the same words.
    make_sequences([prompt], sampling, call.replica.limits, lora=None, stream=False, natural=False)
    room = call.replica.limits.max_model_len - prompt.tokens
    stream = bool(body.get("stream"))
    return {
        "request_id": f"{kind}-{secrets.token_hex(8)}",
        "token_ids": tokenizer.unpack(prompt.packed),
        "features": _features(prompt),
        "sampling_params": {
            "n": sampling.choices,
            "max_tokens": room if sampling.max_tokens is None else sampling.max_tokens,
            "min_tokens": sampling.min_tokens,
            "ignore_eos": sampling.ignore_eos,
        },
        "model": model,
        "stream": stream,
        "stream_options": body.get("stream_options") if stream else None,
        "cache_salt": sampling.salt or None,
        "priority": 0,
        "kv_transfer_params": None,
    }


def _features(prompt: Prompt) -> dict[str, Any] | None:
    """Hashes and places of the media, by modality; None for a prompt of text alone."""
    if not prompt.media:
        return None
    hashes: dict[str, list[str]] = {}
    places: dict[str, list[dict[str, int]]] = {}
    for medium in prompt.media:
        hashes.setdefault(medium.modality, []).append(medium.hash)
        places.setdefault(medium.modality, []).append({"offset": medium.offset, "length": medium.length})
    return {"mm_hashes": hashes, "mm_placeholders": places, "kwargs_data": None}
