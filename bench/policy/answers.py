"""What a model server's answer says and when, from the bytes of one HTTP/1.1 response and the times at which they came.

The client only notes times while a response streams; everything is read here, once it is complete.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

from harness.errors import BenchError

SERVED_HEADER = b"x-gateway-destination-endpoint-served"
_HEAD_END = b"\r\n\r\n"
_OK = 200


class AnswerError(BenchError):
    """A response that is no complete answer; `kind` says in a word or two why."""

    def __init__(self, kind: str, detail: str = "") -> None:
        """`detail`: what was seen, for people."""
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that arrived together, and when (seconds of the loop's clock)."""

    time: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete streamed answer. Times in seconds of the loop's clock."""

    served: str
    """`address:port` of the model server, as the gateway says."""
    first_token: float
    last_token: float
    events: int
    """Chunks with content: one a token."""
    text: str
    prompt_tokens: int
    cached_tokens: int


def read_answer(segments: list[Segment]) -> Answer:
    """Read a streamed completion or chat completion.

    Raises:
        AnswerError: another status than 200, an error in the stream, or a stream that ends early.
    """
    stream = _read(segments)
    if not stream.complete:
        raise AnswerError("stream cut")
    if not stream.tokens:
        raise AnswerError("no content")
    if not isinstance(stream.usage, dict):
        raise AnswerError("no usage")
    details = stream.usage.get("prompt_tokens_details")
    return Answer(
        served=stream.served,
        first_token=stream.tokens[0][0],
        last_token=stream.tokens[-1][0],
        events=len(stream.tokens),
        text="".join(text for _, text in stream.tokens),
        prompt_tokens=_count(stream.usage.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def first_token(segments: list[Segment]) -> float | None:
    """When the first content came of an answer that is not complete; None: it has not come, or it is an error."""
    try:
        tokens = _read(segments).tokens
    except AnswerError:
        return None
    return tokens[0][0] if tokens else None


@dataclass(slots=True)
class _Stream:
    """What a stream has said so far."""

    served: str = ""
    tokens: list[tuple[float, str]] = field(default_factory=list)
    usage: object = None
    complete: bool = False


def _read(segments: list[Segment]) -> _Stream:
    stream = _Stream()
    raw = b"".join(segment.data for segment in segments)
    head, separator, _ = raw.partition(_HEAD_END)
    if not separator:
        return stream
    lines = head.split(b"\r\n")
    status = int(lines[0].split(b" ", 2)[1])
    if status != _OK:
        raise AnswerError(f"status {status}", raw[len(head) : len(head) + 300].decode(errors="replace").strip())
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
    stream.served = headers.get(SERVED_HEADER, b"").decode()
    payload, clock = _dechunk(raw, len(head) + len(_HEAD_END), segments)
    position = 0
    while (end := payload.find(b"\n\n", position)) >= 0:
        event, position, time = payload[position:end].removeprefix(b"data: "), end + 2, clock.at(end + 2)
        if event == b"[DONE]":
            stream.complete = True
            return stream
        document = json.loads(event)
        if "error" in document:
            raise AnswerError("error in the stream", event.decode(errors="replace"))
        stream.usage = document.get("usage") or stream.usage
        for choice in document["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                stream.tokens.append((time, text))
    return stream


def _count(value: object) -> int:
    if not isinstance(value, int):
        raise AnswerError("no usage", f"{value!r} is no number of tokens")
    return value


class _Clock:
    """When each byte of the payload came."""

    def __init__(self, segments: list[Segment]) -> None:
        self._times = [segment.time for segment in segments]
        self._ends = list(accumulate(len(segment.data) for segment in segments))
        self._payload_ends: list[int] = []
        self._raw_ends: list[int] = []

    def add(self, payload_end: int, raw_end: int) -> None:
        """A chunk whose last byte is at these places of payload and response."""
        self._payload_ends.append(payload_end)
        self._raw_ends.append(raw_end)

    def at(self, payload_end: int) -> float:
        """When the payload up to this place was complete."""
        chunk = bisect_left(self._payload_ends, payload_end)
        raw_end = self._raw_ends[chunk] - (self._payload_ends[chunk] - payload_end)
        return self._times[bisect_left(self._ends, raw_end)]


def _dechunk(raw: bytes, position: int, segments: list[Segment]) -> tuple[bytes, _Clock]:
    clock = _Clock(segments)
    parts: list[bytes] = []
    length = 0
    while (line_end := raw.find(b"\r\n", position)) >= 0:
        size = int(raw[position:line_end], 16)
        start = line_end + 2
        if not size or start + size > len(raw):
            break
        parts.append(raw[start : start + size])
        length += size
        clock.add(length, start + size)
        position = start + size + 2
    return b"".join(parts), clock
