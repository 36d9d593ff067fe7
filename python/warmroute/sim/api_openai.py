"""OpenAI completions, chat completions and embeddings, in the shapes that vLLM 0.32 sends."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from . import prompts
from .call import DONE, event
from .errors import bad_request
from .generation import (
    COMPLETION_DEFAULT_TOKENS,
    Generation,
    embedding_sequences,
    make_sequences,
    read_sampling,
)
from .output import seed_of
from .usage import FINGERPRINT, cached_of, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from .call import Call
    from .sequence import Sequence

DEFAULT_EMBEDDING_SIZE = 16
MAX_EMBEDDING_SIZE = 8192


async def completions(call: Call) -> web.StreamResponse:
    """`POST /v1/completions`."""
    body = call.json()
    model, lora = call.served(body)
    sampling = read_sampling(body, "max_tokens", default=COMPLETION_DEFAULT_TOKENS)
    stream = bool(body.get("stream"))
    sequences = make_sequences(prompts.completion_prompts(body), sampling, call.replica.limits, lora=lora, stream=stream, natural=False)
    head = {"id": call.identifier("cmpl"), "object": "text_completion", "created": call.created, "model": model}
    with Generation(call.replica.driver, sequences, sampling.choices) as generation:
        if stream:
            return await _stream(call, body, generation, head, _completion_chunk, [])
        await generation.finish()
    choices = [
        {
            "index": index,
            "text": sequence.text(0, sequence.generated),
            "logprobs": None,
            "finish_reason": sequence.finished,
            "stop_reason": None,
            "token_ids": None,
            "prompt_logprobs": None,
            "prompt_token_ids": None,
            "routed_experts": None,
        }
        for index, sequence in enumerate(sequences)
    ]
    tail = {"usage": usage(sequences, sampling.choices), **_transfer()}
    return await call.answer({**head, "choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT, **tail, "metrics": None})


async def chat_completions(call: Call) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    body = call.json()
    model, lora = call.served(body)
    sampling = read_sampling(body, "max_completion_tokens", "max_tokens")
    stream = bool(body.get("stream"))
    sequences = make_sequences([prompts.chat_prompt(body)], sampling, call.replica.limits, lora=lora, stream=stream, natural=True)
    head = {"id": call.identifier("chatcmpl"), "object": "chat.completion", "created": call.created, "model": model}
    with Generation(call.replica.driver, sequences, sampling.choices) as generation:
        if stream:
            head["object"] = "chat.completion.chunk"
            first = [_role_chunk(head, index) for index in range(len(sequences))]
            return await _stream(call, body, generation, head, _chat_chunk, first)
        await generation.finish()
    choices: list[dict[str, Any]] = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": sequence.text(0, sequence.generated),
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "tool_calls": [],
                "reasoning": None,
            },
            "logprobs": None,
            "finish_reason": sequence.finished,
            "stop_reason": None,
            "token_ids": None,
        }
        for index, sequence in enumerate(sequences)
    ]
    tail = {"usage": usage(sequences, sampling.choices), "prompt_logprobs": None, "prompt_token_ids": None}
    return await call.answer(
        {
            **head,
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            **tail,
            **_transfer(),
        }
    )


async def embeddings(call: Call) -> web.StreamResponse:
    """`POST /v1/embeddings`: unit vectors seeded by the prompt."""
    body = call.json()
    model, lora = call.served(body)
    size = body.get("dimensions")
    size = DEFAULT_EMBEDDING_SIZE if size is None else size
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_EMBEDDING_SIZE:
        raise bad_request(f"dimensions must be between 1 and {MAX_EMBEDDING_SIZE}, got {size!r}.", "dimensions")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise bad_request(f"encoding_format must be float or base64, got {encoding!r}.", "encoding_format")
    prompt_name = "messages" if "messages" in body else "input"
    found = [prompts.chat_prompt(body)] if prompt_name == "messages" else prompts.completion_prompts(body, "input")
    sequences = embedding_sequences(found, call.replica.limits, lora)
    with Generation(call.replica.driver, sequences) as generation:
        await generation.finish()
    data = [{"index": index, "object": "embedding", "embedding": _embedding(prompt.identity, size, encoding)} for index, prompt in enumerate(found)]
    tokens = sum(prompt.tokens for prompt in found)
    spent = {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": {"cached_tokens": cached_of(sequences)},
    }
    head = {"id": call.identifier("embd"), "object": "list", "created": call.created, "model": model}
    return await call.answer({**head, "data": data, "usage": spent})


async def _stream(  # noqa: PLR0917 - what differs between the two APIs is passed in
    call: Call,
    body: dict[str, Any],
    generation: Generation,
    head: dict[str, Any],
    make_chunk: Callable[[int, str, Sequence, bool], dict[str, Any]],
    first: list[bytes],
) -> web.StreamResponse:
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    await call.start_stream()
    # vLLM sends the role with the first token, not before it.
    await generation.advance()
    sent = [0] * len(generation.sequences)
    pending = first
    while True:
        await call.send([*pending, *_new_chunks(generation.sequences, sent, head, make_chunk)])
        pending = []
        if generation.done and all(count == sequence.generated for count, sequence in zip(sent, generation.sequences, strict=True)):
            break
        await generation.advance()
    if options.get("include_usage"):
        spent = usage(generation.sequences, generation.choices, streamed=True)
        pending.append(event({**head, "choices": [], "usage": spent, "system_fingerprint": FINGERPRINT}))
    await call.send([*pending, DONE])
    return await call.end_stream()


def _new_chunks(
    sequences: list[Sequence],
    sent: list[int],
    head: dict[str, Any],
    make_chunk: Callable[[int, str, Sequence, bool], dict[str, Any]],
) -> Iterator[bytes]:
    for index, sequence in enumerate(sequences):
        generated = sequence.generated
        for token in range(sent[index], generated):
            last = sequence.finished is not None and token == generated - 1
            yield event({**head, "choices": [make_chunk(index, sequence.text(token, token + 1), sequence, last)]})
        sent[index] = generated


def _completion_chunk(index: int, text: str, sequence: Sequence, last: bool) -> dict[str, Any]:
    return {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": sequence.finished if last else None,
        "stop_reason": None,
        "prompt_token_ids": None,
        "token_ids": None,
    }


def _chat_chunk(index: int, text: str, sequence: Sequence, last: bool) -> dict[str, Any]:
    chunk: dict[str, Any] = {"index": index, "delta": {"content": text}, "logprobs": None}
    chunk["finish_reason"] = sequence.finished if last else None
    if last:
        chunk["stop_reason"] = None
    chunk["token_ids"] = None
    return chunk


def _role_chunk(head: dict[str, Any], index: int) -> bytes:
    delta = {"role": "assistant", "content": ""}
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return event({**head, "choices": [choice], "prompt_token_ids": None, "prompt_text": None})


def _transfer() -> dict[str, None]:
    return {"kv_transfer_params": None, "ec_transfer_params": None}


def _embedding(identity: bytes, size: int, encoding: str) -> list[float] | str:
    values = [((seed_of(identity, index) & 0xFFFF) / 0x8000) - 1 for index in range(size)]
    norm = sum(value * value for value in values) ** 0.5 or 1.0
    values = [value / norm for value in values]
    if encoding == "float":
        return values
    return base64.b64encode(struct.pack(f"<{size}f", *values)).decode("ascii")
