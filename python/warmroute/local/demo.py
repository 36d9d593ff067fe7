"""A few real requests through the gateway, so that its first user sees it work."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from warmroute.local import probe
from warmroute.local.bootstrap import SERVED
from warmroute.local.probe import Address, ProbeError

_TIMEOUT = 30.0
_SHOWN = 48
#: Long enough to fill many blocks of a prefix cache.
_SHARED_PREFIX = " ".join(
    f"Rule {number}: route each request to the replica whose cache is warm and whose queue is short." for number in range(1, 61)
)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What one request showed; times in seconds."""

    title: str
    endpoint: str
    first_byte: float
    total: float
    prompt_tokens: int | None
    cached_tokens: int | None
    beginning: str

    def render(self) -> str:
        """One line."""
        cached = "" if self.cached_tokens is None else f", {self.cached_tokens} of {self.prompt_tokens} prompt tokens from the cache"
        return (
            f"  {self.title:<24} {self.endpoint:<22} first byte {self.first_byte * 1e3:.0f} ms, total {self.total * 1e3:.0f} ms{cached}\n"
            f"  {'':<24} {self.beginning!r}"
        )


def run(gateway: Address, model: str) -> Iterator[DemoResult]:
    """Send the requests one after the other. Blocks.

    Raises:
        ProbeError: a request fails.

    """
    chat = {"model": model, "messages": [{"role": "user", "content": "Why does a warm cache matter?"}], "max_tokens": 16}
    yield _send(gateway, "chat", "/v1/chat/completions", chat)
    streamed = {**chat, "stream": True, "stream_options": {"include_usage": True}}
    yield _send(gateway, "chat, streamed", "/v1/chat/completions", streamed)
    for title, question in (("long prompt", "Summarise."), ("same beginning", "Translate."), ("same beginning again", "Count the rules.")):
        document = {"model": model, "prompt": f"{_SHARED_PREFIX}\n{question}", "max_tokens": 16}
        yield _send(gateway, title, "/v1/completions", document)


def _send(gateway: Address, title: str, path: str, document: dict[str, Any]) -> DemoResult:
    started = time.monotonic()
    with probe.open_request(gateway, "POST", path, document, _TIMEOUT) as response:
        if response.status != 200:  # noqa: PLR2004 -- the HTTP status
            message = f"the request {title!r} got {response.status}: {response.read(300).decode(errors='replace')}"
            raise ProbeError(message)
        endpoint = response.getheader(SERVED, "unknown")
        beginning = response.read1(65_536)
        first_byte = time.monotonic() - started
        body = beginning + response.read(probe.MAX_BODY)
    total = time.monotonic() - started
    prompt_tokens, cached_tokens = _usage(body)
    return DemoResult(title, endpoint, first_byte, total, prompt_tokens, cached_tokens, _text(body)[:_SHOWN])


def _documents(body: bytes) -> Iterator[dict[str, Any]]:
    """Objects of an answer: the whole body, or the events of a stream."""
    lines = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")] or [body]
    for line in lines:
        if line != b"[DONE]":
            try:
                document = json.loads(line)
            except ValueError as error:
                message = f"an answer holds something that is no JSON: {line[:100]!r}"
                raise ProbeError(message) from error
            if isinstance(document, dict):
                yield document


def _usage(body: bytes) -> tuple[int | None, int | None]:
    for document in _documents(body):
        if usage := document.get("usage"):
            details = usage.get("prompt_tokens_details") or {}
            return usage.get("prompt_tokens"), details.get("cached_tokens")
    return None, None


def _text(body: bytes) -> str:
    parts = []
    for document in _documents(body):
        for choice in document.get("choices", []):
            message = choice.get("message") or choice.get("delta") or {}
            parts.append(choice.get("text") or message.get("content") or "")
    return "".join(parts)
