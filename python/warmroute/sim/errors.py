"""Errors that a client sees, in vLLM's shape."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An error answer: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        """HTTP status, `type`, `message` and `param` of the answer."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    def document(self) -> dict[str, Any]:
        """The OpenAI-shaped body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}

    def anthropic_document(self) -> dict[str, Any]:
        """The Anthropic-shaped body."""
        return {"type": "error", "error": {"type": self.kind, "message": self.message}}


class KvEventError(OSError):
    """KV events cannot be published; the message names the endpoint."""


def bad_request(message: str, param: str | None = None) -> ApiError:
    """400 for a request that the engine refuses."""
    return ApiError(400, "BadRequestError", message, param)


def unknown_model(model: str, aliases: tuple[str, ...]) -> ApiError:
    """404 for a model that is not served."""
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(aliases)}."
    return ApiError(404, "NotFoundError", message, "model")


def invalid_json(position: int, reason: str) -> ApiError:
    """400 for a body that is no JSON, as FastAPI's validation reports it."""
    detail = {
        "type": "json_invalid",
        "loc": ("body", position),
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": reason},
    }
    return ApiError(400, "Bad Request", str([detail]))


def missing_field(name: str) -> ApiError:
    """400 for a body without a required field, as FastAPI's validation reports it."""
    detail = {"type": "missing", "loc": ("body", name), "msg": "Field required"}
    return ApiError(400, "Bad Request", str([detail]), name)
