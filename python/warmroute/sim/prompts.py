"""From request bodies to packed tokens: the chat template, and the forms that a prompt may have.

The template writes `role: content` and a line end, each part padded to whole tokens. So an answer that comes back
as the assistant's message of the next turn stands on the same tokens as when it was generated, and its blocks hit.
An image, a video or a sound becomes a run of placeholders with a hash, as in an engine that can see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import tokenizer
from .errors import bad_request, missing_field
from .prompt import Prompt, PromptBuilder

MAX_PROMPTS = 2048
"""Prompts in one request."""

MODALITIES = {
    "image_url": "image",
    "input_image": "image",
    "image": "image",
    "video_url": "video",
    "input_audio": "audio",
    "audio_url": "audio",
}
"""What the parts of a message that are media contain, by their type in any of the APIs."""


def completion_prompts(body: Mapping[str, Any], name: str = "prompt") -> list[Prompt]:
    """Prompts of a completion or embedding request: text, token ids, or a list of either.

    Raises:
        ApiError: the field is missing or none of these.
    """
    value = body.get(name)
    if value is None:
        raise missing_field(name)
    if isinstance(value, str):
        prompts = [tokenizer.encode(value)]
    elif isinstance(value, list) and value and isinstance(value[0], int):
        prompts = [token_ids(value, name)]
    elif isinstance(value, list) and value:
        if len(value) > MAX_PROMPTS:
            raise bad_request(f"more than {MAX_PROMPTS} prompts in one request", name)
        prompts = [tokenizer.encode(item) if isinstance(item, str) else token_ids(item, name) for item in value]
    else:
        raise bad_request(f"{name} must be a string, an array of strings, or token ids", name)
    if not all(prompts):
        raise bad_request("The decoder prompt cannot be empty", name)
    return [Prompt(prompt) for prompt in prompts]


def token_ids(value: object, name: str) -> bytes:
    """Packed form of a list of token ids.

    Raises:
        ApiError: anything else.
    """
    if not isinstance(value, list) or not value:
        raise bad_request(f"{name} must be a non-empty array of token ids", name)
    try:
        return tokenizer.pack(value)
    except ValueError as error:
        raise bad_request(f"{name}: {error}", name) from error


def chat_prompt(body: Mapping[str, Any]) -> Prompt:
    """Prompt of a chat completion or of a `/tokenize` with messages.

    Raises:
        ApiError: no usable messages.
    """
    builder = PromptBuilder()
    _tools(builder, body)
    _messages(builder, body)
    return _answered(builder)


def anthropic_prompt(body: Mapping[str, Any]) -> Prompt:
    """Prompt of an Anthropic request: system, tools, messages.

    Raises:
        ApiError: no usable messages.
    """
    builder = PromptBuilder()
    _tools(builder, body)
    if body.get("system"):
        _message(builder, "system", body["system"])
    _messages(builder, body)
    return _answered(builder)


def responses_prompt(body: Mapping[str, Any]) -> Prompt:
    """Prompt of a Responses request: instructions and input.

    Raises:
        ApiError: no usable input.
    """
    value = body.get("input")
    if value is None:
        raise missing_field("input")
    builder = PromptBuilder()
    _tools(builder, body)
    if body.get("instructions"):
        _message(builder, "system", body["instructions"])
    if isinstance(value, str):
        _message(builder, "user", value)
    elif isinstance(value, list) and value:
        for item in value:
            _message(builder, str(_mapping(item).get("role", "user")), _item_content(item))
    else:
        raise bad_request("input must be a string or a non-empty array", "input")
    return _answered(builder)


def _answered(builder: PromptBuilder) -> Prompt:
    """The prompt with what the answer continues."""
    _head(builder, "assistant")
    return builder.build()


def _head(builder: PromptBuilder, role: str) -> None:
    builder.text(f"{role}: ")


def _messages(builder: PromptBuilder, body: Mapping[str, Any]) -> None:
    messages = body.get("messages")
    if messages is None:
        raise missing_field("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty array", "messages")
    for message in messages:
        _message(builder, str(_mapping(message).get("role", "user")), message.get("content"))


def _message(builder: PromptBuilder, role: str, content: object) -> None:
    _head(builder, role)
    text = ""
    for part in _parts(content):
        modality = MODALITIES.get(str(part.get("type"))) if isinstance(part, Mapping) else None
        if modality is None:
            text += _text(part)
            continue
        if text:
            builder.text(text)
            text = ""
        builder.medium(modality, *_identity(part))
    builder.text(text + "\n")


def _parts(content: object) -> Sequence[Any]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (content,)
    if isinstance(content, Sequence):
        return content
    raise bad_request("content must be a string or an array of parts", "messages")


def _identity(part: Mapping[str, Any]) -> tuple[object, str | None]:
    """What a medium is known by: its content, and vLLM's `uuid` if the client sends one."""
    identifier = part.get("uuid")
    return {name: value for name, value in part.items() if name != "uuid"}, identifier if isinstance(identifier, str) and identifier else None


def _tools(builder: PromptBuilder, body: Mapping[str, Any]) -> None:
    tools = body.get("tools")
    if tools:
        builder.text(json.dumps(tools) + "\n")


def _text(part: object) -> str:
    if isinstance(part, str):
        return part
    text = _mapping(part).get("text")
    # What is neither text nor a medium (a tool call) still takes part in the prompt, by its JSON.
    return text if isinstance(text, str) else json.dumps(part, sort_keys=True)


def _item_content(item: Mapping[str, Any]) -> object:
    return item.get("content", [item])


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise bad_request("each message must be an object", "messages")
    return value
