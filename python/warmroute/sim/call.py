"""One HTTP call to a replica: its body, its answer, and the fault that may cut it."""

from __future__ import annotations

import json
import secrets
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .errors import ApiError, invalid_json, missing_field, unknown_model

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .faults import Fault
    from .replica import Replica

ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Compact JSON, characters as they are: what vLLM sends."""

DONE = b"data: [DONE]\n\n"
_RESET = struct.pack("ii", 1, 0)


class ConnectionCut(Exception):  # noqa: N818 - control flow of a fault, not an error
    """The connection was reset on purpose."""


class Call:
    """One request on its way through a handler."""

    def __init__(self, replica: Replica, request: web.BaseRequest, fault: Fault | None) -> None:
        """`fault`: what this call has been drawn to suffer, if anything."""
        self.replica = replica
        self.request = request
        self.fault = fault
        self.body = b""
        self.model: str | None = None
        self.created = int(time.time())
        self._stream: web.StreamResponse | None = None
        self._chunks = 0

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            ApiError: it is none.
        """
        try:
            document = json.loads(self.body)
        except json.JSONDecodeError as error:
            raise invalid_json(error.pos, error.msg) from error
        except (UnicodeDecodeError, RecursionError) as error:
            raise invalid_json(0, "There was an error parsing the body") from error
        if not isinstance(document, dict):
            detail = {"type": "model_attributes_type", "loc": ("body",), "msg": "Input should be a valid dictionary"}
            raise ApiError(400, "Bad Request", str([detail]))
        return document

    def served(self, document: dict[str, Any], *, required: bool = False) -> tuple[str, str | None]:
        """The model's name as the client wrote it, and the adapter if it names one.

        Raises:
            ApiError: the model is not served, or is required and missing.
        """
        models = self.replica.config.models
        model = document.get("model")
        if model is None and not required:
            self.model = models[0]
            return models[0], None
        if not isinstance(model, str):
            raise missing_field("model")
        self.model = model
        if model in models:
            return model, None
        if self.replica.adapters.get(model) is not None:
            return model, model
        raise unknown_model(model, models)

    def identifier(self, prefix: str) -> str:
        """Id of the answer: the client's request id where it sends one, as vLLM does."""
        return f"{prefix}-{self.request.headers.get('x-request-id') or secrets.token_hex(8)}"

    async def answer(self, document: object, status: int = 200) -> web.StreamResponse:
        """Send a JSON answer."""
        return await self.raw(ENCODE(document).encode("utf-8", "surrogatepass"), "application/json", status)

    async def raw(self, body: bytes, content_type: str, status: int = 200) -> web.StreamResponse:
        """Send an answer of any type; a mid-stream fault cuts it in half."""
        headers = {"content-type": content_type, "x-sim-endpoint": self.replica.address}
        if self.fault is None or self.fault.kind != "reset-mid-stream":
            return web.Response(body=body, status=status, headers=headers)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(self.request)
        await response.write(body[: len(body) // 2])
        self.cut()
        raise ConnectionCut

    async def start_stream(self) -> None:
        """Send the headers of an event stream."""
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-sim-endpoint": self.replica.address,
        }
        self._stream = web.StreamResponse(headers=headers)
        await self._stream.prepare(self.request)
        if self.fault is not None and self.fault.kind == "reset-mid-stream" and not self.fault.after_chunks:
            self.cut()
            raise ConnectionCut

    async def send(self, chunks: Iterable[bytes]) -> None:
        """Send events, in one write; a mid-stream fault cuts the connection after its number of them.

        Raises:
            RuntimeError: `start_stream` was not called.
        """
        if self._stream is None:
            message = "send before start_stream"
            raise RuntimeError(message)
        chunks = list(chunks)
        if self.fault is not None and self.fault.kind == "reset-mid-stream":
            left = self.fault.after_chunks - self._chunks
            self._chunks += len(chunks)
            if len(chunks) >= left:
                await self._stream.write(b"".join(chunks[:left]))
                self.cut()
                raise ConnectionCut
        if chunks:
            await self._stream.write(b"".join(chunks))

    async def end_stream(self) -> web.StreamResponse:
        """Close the event stream."""
        if self._stream is None:
            message = "end_stream before start_stream"
            raise RuntimeError(message)
        await self._stream.write_eof()
        return self._stream

    @property
    def started(self) -> web.StreamResponse | None:
        """The stream, once its headers are sent."""
        return self._stream

    def cut(self) -> None:
        """Reset the connection: what is not on the wire yet is lost, and the peer gets RST."""
        cut_connection(self.request.transport)


def cut_connection(transport: Any) -> None:
    """Close a connection with RST."""
    if transport is None:
        return
    peer = transport.get_extra_info("socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def event(document: object) -> bytes:
    """One OpenAI-style event."""
    return f"data: {ENCODE(document)}\n\n".encode("utf-8", "surrogatepass")


def named_event(kind: str, document: object) -> bytes:
    """One event with a name (Anthropic, Responses)."""
    return f"event: {kind}\ndata: {ENCODE(document)}\n\n".encode("utf-8", "surrogatepass")
