"""The OpenAI Responses API: one text item, with the event types of its streaming protocol. Nothing is stored."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from . import prompts
from .call import named_event
from .generation import Generation, make_sequences, read_sampling

if TYPE_CHECKING:
    from aiohttp import web

    from .call import Call
    from .sequence import Sequence


async def responses(call: Call) -> web.StreamResponse:
    """`POST /v1/responses`."""
    body = call.json()
    model, lora = call.served(body)
    sampling = read_sampling({**body, "n": None}, "max_output_tokens")
    stream = bool(body.get("stream"))
    sequences = make_sequences([prompts.responses_prompt(body)], sampling, call.replica.limits, lora=lora, stream=stream, natural=True)
    (sequence,) = sequences
    head = _head(call, body, model)
    item_id = f"msg_{secrets.token_hex(8)}"
    with Generation(call.replica.driver, sequences) as generation:
        if stream:
            return await _stream(call, generation, sequence, head, item_id)
        await generation.finish()
    return await call.answer(_finished(head, sequence, item_id))


async def _stream(call: Call, generation: Generation, sequence: Sequence, head: dict[str, Any], item_id: str) -> web.StreamResponse:
    events = _Events()
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    await call.start_stream()
    empty = {"id": item_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    started = {**head, "status": "in_progress", "output": [], "usage": None}
    await call.send([events.make("response.created", response=started), events.make("response.in_progress", response=started)])
    await generation.advance()
    pending = [
        events.make("response.output_item.added", output_index=0, item=empty),
        events.make("response.content_part.added", **place, part=_part("")),
    ]
    sent = 0
    while True:
        for token in range(sent, sequence.generated):
            delta = sequence.text(token, token + 1)
            pending.append(events.make("response.output_text.delta", **place, delta=delta, logprobs=[]))
        sent = sequence.generated
        await call.send(pending)
        pending = []
        if generation.done and sent == sequence.generated:
            break
        await generation.advance()
    text = sequence.text(0, sequence.generated)
    done = _finished(head, sequence, item_id)
    await call.send(
        [
            events.make("response.output_text.done", **place, text=text, logprobs=[]),
            events.make("response.content_part.done", **place, part=_part(text)),
            events.make("response.output_item.done", output_index=0, item=done["output"][0]),
            events.make(f"response.{done['status']}", response=done),
        ]
    )
    return await call.end_stream()


class _Events:
    """Numbers the events of a stream."""

    def __init__(self) -> None:
        self._next = 0

    def make(self, kind: str, **fields: object) -> bytes:
        document = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return named_event(kind, document)


def _head(call: Call, body: dict[str, Any], model: str) -> dict[str, Any]:
    return {
        "id": call.identifier("resp"),
        "object": "response",
        "created_at": call.created,
        "model": model,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "parallel_tool_calls": bool(body.get("parallel_tool_calls", True)),
        "temperature": body.get("temperature", 1.0),
        "top_p": body.get("top_p", 1.0),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "max_output_tokens": body.get("max_output_tokens"),
        "error": None,
        "incomplete_details": None,
    }


def _finished(head: dict[str, Any], sequence: Sequence, item_id: str) -> dict[str, Any]:
    complete = sequence.finished == "stop"
    item = {
        "id": item_id,
        "type": "message",
        "role": "assistant",
        "status": "completed" if complete else "incomplete",
        "content": [_part(sequence.text(0, sequence.generated))],
    }
    return {
        **head,
        "status": item["status"],
        "incomplete_details": None if complete else {"reason": "max_output_tokens"},
        "output": [item],
        "usage": {
            "input_tokens": sequence.prompt_tokens,
            "input_tokens_details": {"cached_tokens": sequence.cached_tokens},
            "output_tokens": sequence.generated,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": sequence.length,
        },
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
