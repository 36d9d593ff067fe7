"""Anthropic messages, with the event types of its streaming protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import prompts
from .call import named_event
from .errors import missing_field
from .generation import Generation, make_sequences, read_sampling

if TYPE_CHECKING:
    from aiohttp import web

    from .call import Call
    from .sequence import Sequence

STOP_REASONS = {"length": "max_tokens", "stop": "end_turn", "abort": "end_turn", None: None}


async def messages(call: Call) -> web.StreamResponse:
    """`POST /v1/messages`."""
    body = call.json()
    model, lora = call.served(body, required=True)
    if body.get("max_tokens") is None:
        raise missing_field("max_tokens")
    sampling = read_sampling({**body, "n": None}, "max_tokens")
    stream = bool(body.get("stream"))
    sequences = make_sequences([prompts.anthropic_prompt(body)], sampling, call.replica.limits, lora=lora, stream=stream, natural=True)
    (sequence,) = sequences
    head: dict[str, Any] = {"id": call.identifier("msg"), "type": "message", "role": "assistant", "model": model}
    with Generation(call.replica.driver, sequences) as generation:
        if stream:
            return await _stream(call, generation, sequence, head)
        await generation.finish()
    return await call.answer(
        {
            **head,
            "content": [{"type": "text", "text": sequence.text(0, sequence.generated)}],
            "stop_reason": STOP_REASONS[sequence.finished],
            "stop_sequence": None,
            "usage": _usage(sequence, sequence.generated),
        }
    )


async def count_tokens(call: Call) -> web.StreamResponse:
    """`POST /v1/messages/count_tokens`."""
    body = call.json()
    call.served(body, required=True)
    return await call.answer({"input_tokens": prompts.anthropic_prompt(body).tokens})


async def _stream(call: Call, generation: Generation, sequence: Sequence, head: dict[str, Any]) -> web.StreamResponse:
    await call.start_stream()
    await generation.advance()
    message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(sequence, 0)}
    pending = [
        named_event("message_start", {"type": "message_start", "message": message}),
        named_event(
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
    ]
    sent = 0
    while True:
        for token in range(sent, sequence.generated):
            delta = {"type": "text_delta", "text": sequence.text(token, token + 1)}
            pending.append(named_event("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}))
        sent = sequence.generated
        await call.send(pending)
        pending = []
        if generation.done and sent == sequence.generated:
            break
        await generation.advance()
    ending = {"stop_reason": STOP_REASONS[sequence.finished], "stop_sequence": None}
    await call.send(
        [
            named_event("content_block_stop", {"type": "content_block_stop", "index": 0}),
            named_event(
                "message_delta",
                {"type": "message_delta", "delta": ending, "usage": _usage(sequence, sequence.generated)},
            ),
            named_event("message_stop", {"type": "message_stop"}),
        ]
    )
    return await call.end_stream()


def _usage(sequence: Sequence, output_tokens: int) -> dict[str, int]:
    return {
        "input_tokens": sequence.prompt_tokens,
        "output_tokens": output_tokens,
        "cache_creation_input_tokens": sequence.created_tokens,
        "cache_read_input_tokens": sequence.cached_tokens,
    }
