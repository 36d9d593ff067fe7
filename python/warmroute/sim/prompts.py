"""From request bodies to packed tokens: the chat template, and the forms that a prompt may have.

The template writes `role: content` and a line end, each part padded to whole tokens. So an answer that comes back
as the assistant's message of the next turn stands on the same tokens as when it was generated, and its blocks hit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import tokenizer
from .errors import bad_request, missing_field

MAX_PROMPTS = 2048
"""Prompts in one request."""


def completion_prompts(body: Mapping[str, Any], name: str = "prompt") -> list[bytes]:
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
    return prompts


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


def chat_prompt(body: Mapping[str, Any]) -> bytes:
    """Prompt of a chat completion or of a `/tokenize` with messages.

    Raises:
        ApiError: no usable messages.
    """
    return _tools(body) + _messages(body) + message_head("assistant")


def anthropic_prompt(body: Mapping[str, Any]) -> bytes:
    """Prompt of an Anthropic request: system, tools, messages.

    Raises:
        ApiError: no usable messages.
    """
    system = _message("system", body["system"]) if body.get("system") else b""
    return _tools(body) + system + _messages(body) + message_head("assistant")


def responses_prompt(body: Mapping[str, Any]) -> bytes:
    """Prompt of a Responses request: instructions and input.

    Raises:
        ApiError: no usable input.
    """
    value = body.get("input")
    if value is None:
        raise missing_field("input")
    system = _message("system", body["instructions"]) if body.get("instructions") else b""
    if isinstance(value, str):
        turns = _message("user", value)
    elif isinstance(value, list) and value:
        turns = b"".join(_message(str(_mapping(item).get("role", "user")), _item_content(item)) for item in value)
    else:
        raise bad_request("input must be a string or a non-empty array", "input")
    return _tools(body) + system + turns + message_head("assistant")


def message_head(role: str) -> bytes:
    """What stands before a message's content; for the assistant, what the answer continues."""
    return tokenizer.encode(f"{role}: ")


def _messages(body: Mapping[str, Any]) -> bytes:
    messages = body.get("messages")
    if messages is None:
        raise missing_field("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty array", "messages")
    return b"".join(_message(str(_mapping(message).get("role", "user")), message.get("content")) for message in messages)


def _message(role: str, content: object) -> bytes:
    return message_head(role) + tokenizer.encode(_text(content) + "\n")


def _tools(body: Mapping[str, Any]) -> bytes:
    tools = body.get("tools")
    return tokenizer.encode(json.dumps(tools) + "\n") if tools else b""


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(_part(part) for part in content)
    raise bad_request("content must be a string or an array of parts", "messages")


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    text = _mapping(part).get("text")
    # What is no text (an image, a tool call) still takes part in the prompt, by its JSON.
    return text if isinstance(text, str) else json.dumps(part, sort_keys=True)


def _item_content(item: Mapping[str, Any]) -> object:
    return item.get("content", [item])


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise bad_request("each message must be an object", "messages")
    return value
