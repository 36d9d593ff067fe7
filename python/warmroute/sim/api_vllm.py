"""What vLLM serves beside the OpenAI and Anthropic APIs: tokens in and out, models, adapters, health."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from . import prompts, tokenizer
from .call import DONE, event
from .errors import ApiError, missing_field
from .generation import COMPLETION_DEFAULT_TOKENS, Generation, make_sequences, read_sampling
from .prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from .call import Call
    from .kv_events import KvEventPublisher
    from .sequence import Sequence

VERSION = "0.32.0"
"""The vLLM whose recorded answers this server follows."""


async def generate(call: Call) -> web.StreamResponse:
    """`POST /inference/v1/generate`: token ids in, token ids out."""
    body = call.json()
    _model, lora = call.served(body)
    if body.get("token_ids") is None:
        raise missing_field("token_ids")
    parameters = body.get("sampling_params")
    parameters = parameters if isinstance(parameters, dict) else {}
    sampling = read_sampling({**parameters, "cache_salt": body.get("cache_salt")}, "max_tokens", default=COMPLETION_DEFAULT_TOKENS)
    stream = bool(body.get("stream"))
    prompt = Prompt(prompts.token_ids(body["token_ids"], "token_ids"))
    sequences = make_sequences([prompt], sampling, call.replica.limits, lora=lora, stream=stream, natural=False)
    request_id = str(body.get("request_id") or call.request.headers.get("x-request-id") or secrets.token_hex(8))
    with Generation(call.replica.driver, sequences, sampling.choices) as generation:
        if stream:
            return await _stream(call, generation, request_id)
        await generation.finish()
    choices = [_choice(index, sequence, 0, sequence.generated) for index, sequence in enumerate(sequences)]
    return await call.answer({"request_id": request_id, "choices": choices, "prompt_logprobs": None, "kv_transfer_params": None})


async def tokenize(call: Call) -> web.StreamResponse:
    """`POST /tokenize`: of a prompt, or of messages."""
    body = call.json()
    call.served(body)
    packed = prompts.chat_prompt(body).packed if "messages" in body else tokenizer.encode(_text(body, "prompt"))
    ids = tokenizer.unpack(packed)
    strings = None
    if body.get("return_token_strs"):
        size = tokenizer.TOKEN_BYTES
        strings = [tokenizer.decode(packed[start : start + size]) for start in range(0, len(packed), size)]
    limit = call.replica.limits.max_model_len
    return await call.answer({"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": strings})


async def detokenize(call: Call) -> web.StreamResponse:
    """`POST /detokenize`."""
    body = call.json()
    call.served(body)
    if body.get("tokens") is None:
        raise missing_field("tokens")
    packed = prompts.token_ids(body["tokens"], "tokens") if body["tokens"] else b""
    return await call.answer({"prompt": tokenizer.decode(packed)})


async def models(call: Call) -> web.StreamResponse:
    """`GET /v1/models`: the model under its names, then the adapters."""
    replica = call.replica
    names = replica.config.models
    cards = [_card(call, name, f"/models/{names[0]}", None, replica.limits.max_model_len) for name in names]
    cards += [_card(call, adapter.name, adapter.path, names[0], None) for adapter in replica.adapters.all()]
    return await call.answer({"object": "list", "data": cards})


async def load_lora_adapter(call: Call) -> web.StreamResponse:
    """`POST /v1/load_lora_adapter`."""
    body = call.json()
    text = call.replica.adapters.load(_optional_text(body, "lora_name"), _optional_text(body, "lora_path"), in_place=bool(body.get("load_inplace")))
    return await call.raw(text.encode(), "text/plain; charset=utf-8")


async def unload_lora_adapter(call: Call) -> web.StreamResponse:
    """`POST /v1/unload_lora_adapter`."""
    text = call.replica.adapters.unload(_optional_text(call.json(), "lora_name"))
    return await call.raw(text.encode(), "text/plain; charset=utf-8")


async def health(call: Call) -> web.StreamResponse:
    """`GET /health` and `/ping`: 200 without a body."""
    return await call.raw(b"", "text/plain; charset=utf-8")


async def load(call: Call) -> web.StreamResponse:
    """`GET /load`: inference requests in the server."""
    return await call.answer({"server_load": call.replica.open_requests})


async def version(call: Call) -> web.StreamResponse:
    """`GET /version`."""
    return await call.answer({"version": VERSION})


async def kv_event_sources(call: Call) -> web.StreamResponse:
    """`GET /kv_event_sources`: where KV events are published. The shape is ours: no real answer is recorded."""
    publisher = call.replica.publisher
    rank = call.replica.config.rank_of(call.replica.index)
    sources = [] if publisher is None else [{**_source(publisher), "dp_rank": rank}]
    return await call.answer({"sources": sources})


def _source(publisher: KvEventPublisher) -> dict[str, Any]:
    return {"endpoint": publisher.endpoint, "replay_endpoint": publisher.replay_endpoint, "topic": publisher.topic}


async def reset_prefix_cache(call: Call) -> web.StreamResponse:
    """`POST /reset_prefix_cache`: forget the cache's content. 200 also where running requests prevent it, as vLLM answers.

    `?reset_running_requests=true` computes those again, `?reset_external=true` drops the copies in the CPU too.
    """
    query = call.request.query
    call.replica.reset_prefix_cache(running=_switch(query, "reset_running_requests"), external=_switch(query, "reset_external"))
    return await call.raw(b"", "text/plain; charset=utf-8")


async def _stream(call: Call, generation: Generation, request_id: str) -> web.StreamResponse:
    await call.start_stream()
    sent = [0] * len(generation.sequences)
    while True:
        await generation.advance()
        finished = generation.done
        chunks = []
        for index, sequence in enumerate(generation.sequences):
            if sent[index] < sequence.generated:
                choice = _choice(index, sequence, sent[index], sequence.generated)
                chunks.append(event({"request_id": request_id, "choices": [choice]}))
                sent[index] = sequence.generated
        await call.send(chunks)
        if finished:
            break
    await call.send([DONE])
    return await call.end_stream()


def _choice(index: int, sequence: Sequence, start: int, end: int) -> dict[str, Any]:
    ids = tokenizer.unpack(sequence.tokens(sequence.prompt_tokens + start, sequence.prompt_tokens + end))
    reason = sequence.finished if end == sequence.generated else None
    return {"index": index, "logprobs": None, "finish_reason": reason, "token_ids": ids}


def _card(call: Call, name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{secrets.token_hex(8)}",
        "object": "model_permission",
        "created": call.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": call.created,
        "owned_by": "vllm",
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }


def _switch(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "false").lower() in ("true", "1", "yes", "on")


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise missing_field(name)
    return value


def _optional_text(body: dict[str, Any], name: str) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise ApiError(400, "Bad Request", f"{name} must be a string", name)
    return value
