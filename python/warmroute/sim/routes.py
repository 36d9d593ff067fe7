"""Which handler serves which method and path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from . import api_admin, api_anthropic, api_openai, api_render, api_responses, api_vllm
from .call import Call

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

INFERENCE: dict[str, Handler] = {
    "/v1/completions": api_openai.completions,
    "/v1/chat/completions": api_openai.chat_completions,
    "/v1/embeddings": api_openai.embeddings,
    "/v1/responses": api_responses.responses,
    "/v1/messages": api_anthropic.messages,
    "/inference/v1/generate": api_vllm.generate,
}
"""POST routes that run the model: counted as load, logged, and hit by faults."""

OTHER: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/completions/render"): api_render.completions,
    ("POST", "/v1/chat/completions/render"): api_render.chat_completions,
    ("POST", "/v1/messages/count_tokens"): api_anthropic.count_tokens,
    ("GET", "/v1/models"): api_vllm.models,
    ("POST", "/tokenize"): api_vllm.tokenize,
    ("POST", "/detokenize"): api_vllm.detokenize,
    ("POST", "/v1/load_lora_adapter"): api_vllm.load_lora_adapter,
    ("POST", "/v1/unload_lora_adapter"): api_vllm.unload_lora_adapter,
    ("GET", "/health"): api_vllm.health,
    ("GET", "/ping"): api_vllm.health,
    ("POST", "/ping"): api_vllm.health,
    ("GET", "/load"): api_vllm.load,
    ("GET", "/version"): api_vllm.version,
    ("GET", "/kv_event_sources"): api_vllm.kv_event_sources,
    ("POST", "/reset_prefix_cache"): api_vllm.reset_prefix_cache,
}

ADMIN: dict[tuple[str, str], Handler] = {
    ("POST", "/sim/fault"): api_admin.set_fault,
    ("DELETE", "/sim/fault"): api_admin.clear_fault,
    ("GET", "/sim/state"): api_admin.state,
    ("GET", "/sim/requests"): api_admin.requests,
}

PATHS = frozenset(INFERENCE) | {path for _, path in OTHER} | {path for _, path in ADMIN}
