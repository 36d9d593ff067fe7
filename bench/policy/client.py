"""An HTTP/1.1 client for streamed answers that costs next to nothing per chunk, so that it does not become what is measured.

It notes the time of each arrival and looks for the end of the response; `answers` reads the rest afterwards.
"""

import asyncio
import json
from typing import Any, cast

from policy.answers import Answer, AnswerError, Segment, read_answer

_HEAD_END = b"\r\n\r\n"
_CHUNKED_END = b"\r\n0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._segments: list[Segment] = []
        self._head = b""
        self._in_body = False
        self._remaining: int | None = None
        self._tail = b""

    @property
    def usable(self) -> bool:
        """Whether another exchange may use it."""
        return self._transport is not None and not self._transport.is_closing() and self._done is None

    def exchange(self, request: bytes, segments: list[Segment]) -> asyncio.Future[None]:
        """Send a request; the future is done when the response is complete, which is written to `segments` as it comes."""
        if self._transport is None:
            raise AnswerError("connection lost")
        self._done = self._loop.create_future()
        self._segments, self._head, self._in_body, self._remaining, self._tail = segments, b"", False, None, b"\r\n"
        self._transport.write(request)
        return self._done

    def close(self) -> None:
        """Close it, whatever is open."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(AnswerError("connection lost", str(exc or "")))

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._segments.append(Segment(self._loop.time(), data))
        if not self._in_body:
            self._head += data
            head, separator, data = self._head.partition(_HEAD_END)
            if not separator:
                return
            self._in_body = True
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            self._remaining = int(lengths[0].partition(b":")[2]) if lengths else None
        if self._remaining is not None:
            self._remaining -= len(data)
            ended = self._remaining <= 0
        else:
            self._tail = (self._tail + data)[-len(_CHUNKED_END) :]
            ended = self._tail == _CHUNKED_END
        if ended and self._done is not None:
            done, self._done = self._done, None
            if not done.done():
                done.set_result(None)


class Client:
    """Connections to one gateway, kept for the next request."""

    def __init__(self, host: str, port: int) -> None:
        """Connects when it is needed."""
        self._host, self._port = host, port
        self._idle: list[_Connection] = []
        self._all: list[_Connection] = []

    async def ask(self, path: str, body: bytes, segments: list[Segment]) -> Answer:
        """Send one request and wait for the end of its answer. `segments`: an empty list, that has what came so far also when this is cancelled.

        Raises:
            AnswerError: there was no complete answer.
        """
        connection = await self._connection()
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            await connection.exchange(head.encode() + body, segments)
        except asyncio.CancelledError:
            # The server sees that nobody waits any longer, and so frees the slot.
            connection.close()
            raise
        self._idle.append(connection)
        return read_answer(segments)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.close()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(loop), self._host, self._port)
        except OSError as error:
            raise AnswerError("connection refused", str(error)) from error
        self._all.append(connection)
        return connection


def completion(model: str, prompt: str, output_tokens: int) -> bytes:
    """Body of a streamed completion of exactly so many tokens."""
    return _body(model, output_tokens, prompt=prompt)


def chat(model: str, messages: list[dict[str, str]], output_tokens: int) -> bytes:
    """Body of a streamed chat completion of exactly so many tokens."""
    return _body(model, output_tokens, messages=messages)


def _body(model: str, output_tokens: int, **prompt: Any) -> bytes:
    document = {"model": model, **prompt, "max_tokens": output_tokens, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(document).encode()
