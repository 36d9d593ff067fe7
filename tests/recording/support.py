"""Exchanges as a gateway has them, and recordings made in this process."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from hermetic import messages
from hermetic.conftest import METHOD, metrics_page
from warmroute import _core


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def decisions(path: Path) -> list[dict[str, Any]]:
    """Those that are decisions."""
    return [line for line in lines(path) if "candidates" in line]


def request(pb: ModuleType, prompt: str, model: str = "m", **headers: str) -> list[Any]:
    """What a gateway sends of a completion."""
    first = messages.headers(pb, **{":path": "/v1/completions", ":method": "POST"}, content_type="application/json", **headers)
    return [first, messages.body(pb, json.dumps({"model": model, "prompt": prompt, "max_tokens": 16}).encode())]


def answer(pb: ModuleType, usage: int | None = None) -> list[Any]:
    """What it sends of the answer; `usage`: output tokens that it tells."""
    content: dict[str, Any] = {"choices": [{"text": "an answer"}]}
    if usage is not None:
        content["usage"] = {"prompt_tokens": 9, "completion_tokens": usage, "total_tokens": 9 + usage}
    first = messages.response_headers(pb, **{":status": "200"}, content_type="application/json")
    return [first, messages.response_body(pb, json.dumps(content).encode(), end_of_stream=True)]


class Client:
    """Sends exchanges to a picker over gRPC."""

    def __init__(self, pb: ModuleType, address: str) -> None:
        self.pb = pb
        self._channel = grpc.insecure_channel(address)
        self._process = self._channel.stream_stream(
            METHOD, request_serializer=pb.ProcessingRequest.SerializeToString, response_deserializer=pb.ProcessingResponse.FromString
        )

    def complete(self, prompt: str, *, usage: int | None = None, **headers: str) -> None:
        """One request and its answer, to the end."""
        exchange = [*request(self.pb, prompt, **headers), *answer(self.pb, usage)]
        replies = list(self._process(iter(exchange), timeout=10))
        assert not any(reply.HasField("immediate_response") for reply in replies), replies

    def close(self) -> None:
        self._channel.close()


class Recorder:
    """An engine with pods whose metrics the test makes, and its exchanges."""

    def __init__(self, pb: ModuleType, policy: str, sample: float = 1.0, seed: int = 3) -> None:
        self.pb = pb
        self.engine = _core.Engine(json.dumps({"record_sample": sample, "seed": seed}), policy)

    def pod(self, index: int, waiting: float = 0, kv_usage: float = 0, **labels: str) -> None:
        self.engine.upsert_endpoint("default", f"pod-{index}", f"192.168.1.{index + 1}", 8000, labels)
        self.engine.feed_metrics("default", f"pod-{index}", metrics_page(waiting, kv_usage, ()))

    def begin(self, prompt: str) -> _core.Exchange:
        """A request that is sent and not answered."""
        exchange = _core.Exchange(self.engine)
        for message in request(self.pb, prompt):
            exchange.receive(message.SerializeToString())
        return exchange

    def end(self, exchange: _core.Exchange, usage: int | None = None) -> None:
        """Its answer."""
        for message in answer(self.pb, usage):
            exchange.receive(message.SerializeToString())
        exchange.close(0)

    def write(self, path: Path, policy: str = "") -> Path:
        """All that was recorded, as a file."""
        text = self.engine.recording_header(policy, 1_000.0)
        while more := self.engine.take_recorded(100):
            text += more
        path.write_text(text)
        return path
