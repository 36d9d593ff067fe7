"""Prompts through a real tokenizer, matched against what engines announced, in both hosts."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgpack
import pytest

from policies import policy

from .messages import body, headers

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "rust/tokenize/tests/data/vllm-0.32"
# Requests to a real vLLM, in the order in which its KV events came.
RECORDED = json.loads((MODEL / "requests.json").read_text())
TOKENS = json.loads((MODEL / "tokens.json").read_text())
EVENTS = [
    [base64.b64decode(frame) for frame in json.loads(line)] for line in (ROOT / "tests/data/vllm-0.32/kv-events.jsonl").read_text().splitlines()
]
BLOCK = 32
LOCAL = {"local": {"path": str(MODEL)}}
PODS = 3
POD_1 = "192.168.1.2:8000"


def exact(tokenizer: dict[str, Any] | None, **parameters: Any) -> str:
    producer = {} if tokenizer is None else {"parameters": tokenizer}
    return policy(
        {"type": "token-producer", **producer},
        {"type": "precise-prefix-cache-producer", "parameters": parameters},
        {"type": "prefix-cache-scorer", "weight": 1},
    )


def frames(number: int, *events: dict[str, Any]) -> list[bytes]:
    return [b"kv@pod@tiny", number.to_bytes(8, "big"), msgpack.packb([time.time(), list(events), 0])]


def recorded(first: int) -> list[list[bytes]]:
    """The recorded messages, numbered from `first`."""
    return [[topic, (first + number).to_bytes(8, "big"), payload] for number, (topic, _, payload) in enumerate(EVENTS)]


class Pool:
    """A picker with endpoints whose KV events the test makes."""

    def __init__(self, picker: Any, pb: Any) -> None:
        self.picker, self.pb = picker, pb
        for index in range(PODS):
            picker.pod(index)
        self.sink = picker.engine.kv_events()
        rows = sorted(self.sink.pool(), key=lambda row: row[3])
        self.matched: dict[str, int] = {}
        self.publishers = [self.sink.open(row[0], row[1], f"{row[4]}:{row[5]}", 0, "vllm") for row in rows]

        # From the first message on an endpoint is known to hold what it says, and nothing else.
        for pod in range(PODS):
            self.announce(pod, frames(0))

    def announce(self, pod: int, *messages: list[bytes]) -> None:
        for frames in messages:
            self.sink.receive(self.publishers[pod], *frames)

    def ask(self, path: str, content: dict[str, Any]) -> str:
        """The destination of a request."""
        encoded = json.dumps(content).encode()
        first = headers(self.pb, **{":path": path, ":method": "POST"}, content_type="application/json", x_request_id="id")
        replies = self.picker.exchange(first, body(self.pb, encoded))
        return self.destination(replies)

    @staticmethod
    def destination(replies: list[Any]) -> str:
        assert all(not reply.HasField("immediate_response") for reply in replies), replies
        for reply in replies:
            for part in (reply.request_headers, reply.request_body):
                for option in part.response.header_mutation.set_headers:
                    if option.header.key == "x-gateway-destination-endpoint":
                        return option.header.raw_value.decode()
        pytest.fail(f"no destination in {replies}")

    def expected_tokens(self) -> dict[str, int]:
        """Tokens that the picker expected in each endpoint's cache since the last call, where it expected any."""
        now = {row["name"]: row["matched_tokens"] for row in self.picker.engine.endpoints()}
        before, self.matched = self.matched, now
        return {name: tokens - before.get(name, 0) for name, tokens in now.items() if tokens != before.get(name, 0)}

    def fallbacks(self) -> dict[str, float]:
        return {labels[0]: count for labels, count, *_ in self.picker.families()["prefix_fallbacks_total"]["samples"] if count}


@pytest.fixture
def pool(start, pb) -> Callable[..., Pool]:
    return lambda tokenizer, **parameters: Pool(start(exact(tokenizer, **parameters)), pb)


def test_recorded_prompts_go_to_the_endpoint_whose_engine_announced_them(pool):
    running = pool(LOCAL)
    running.announce(1, *recorded(1))
    for request in RECORDED:
        announced = len(TOKENS[request["file"]]["announced"]) // BLOCK * BLOCK
        assert running.ask(request["path"], request["body"]) == POD_1, request["file"]
        assert running.expected_tokens() == {"pod-1": announced}, request["file"]
    # The same words under another adapter, or another salt, are other blocks.
    running.ask("/v1/completions", {**RECORDED[0]["body"], "model": "a1"})
    running.ask("/v1/completions", {**RECORDED[0]["body"], "cache_salt": "mine"})
    assert running.expected_tokens() == {}
    running.announce(1, frames(len(EVENTS) + 1, {"type": "AllBlocksCleared"}))
    for request in RECORDED:
        running.ask(request["path"], request["body"])
    assert running.expected_tokens() == {}
    assert running.picker.counter("tokenize_queued") == 0


class Renderer(ThreadingHTTPServer):
    """Renders the recorded requests as vLLM does, unless told to fail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Render)
        self.fails = 0
        self.asked: list[str] = []


class _Render(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Renderer)
        server.asked.append(self.path)
        given = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if server.fails:
            server.fails -= 1
            self.answer(503, {"error": {"message": "out to lunch"}})
            return
        found = next(
            request for request in RECORDED if all(given[key] == request["body"].get(key) for key in ("model", "prompt", "messages") if key in given)
        )
        rendered = {"token_ids": TOKENS[found["file"]]["announced"], "features": None}
        self.answer(200, rendered if "messages" in given else [rendered])

    def answer(self, status: int, content: Any) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    with Renderer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_model_server_is_asked_and_while_it_fails_requests_go_by_what_was_sent(pool, renderer):
    running = pool({"vllm": {"url": f"http://127.0.0.1:{renderer.server_port}"}})
    running.announce(1, *recorded(1))
    completion, chat = RECORDED[0], RECORDED[-1]
    for request in (completion, chat):
        assert running.ask(request["path"], request["body"]) == POD_1
    assert renderer.asked == ["/v1/completions/render", "/v1/chat/completions/render"]
    assert running.fallbacks() == {}
    renderer.fails = 2
    # Both go on, the second to where the first was sent: wherever that is, it was remembered.
    chosen = [running.ask(completion["path"], completion["body"]) for _ in range(2)]
    assert chosen[0] == chosen[1] == POD_1
    assert running.fallbacks() == {"unavailable": 2}
    outcomes = {row["outcome"]: row for row in running.picker.engine.token_outcomes()}
    assert (outcomes["ok"]["count"], outcomes["ok"]["last"], outcomes["unavailable"]["count"]) == (2, "", 2)
    assert "out to lunch" in outcomes["unavailable"]["last"]
    running.expected_tokens()
    assert running.ask(chat["path"], chat["body"]) == POD_1
    assert running.expected_tokens() == {"pod-1": len(TOKENS[chat["file"]]["announced"]) // BLOCK * BLOCK}


def test_requests_that_have_no_tokens_go_by_what_was_sent_and_say_why(pool, tmp_path):
    (tmp_path / "tokenizer.json").symlink_to(MODEL / "tokenizer.json")
    refusing = "{{ raise_exception('roles must alternate') }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": refusing}))
    running = pool({"local": {"path": str(tmp_path)}})
    running.announce(1, *recorded(1))
    chat = RECORDED[-1]
    first = running.ask(chat["path"], chat["body"])
    assert [running.ask(chat["path"], chat["body"]) for _ in range(3)] == [first] * 3
    assert running.fallbacks() == {"bad_request": 4}
    (outcome,) = running.picker.engine.token_outcomes()
    assert "roles must alternate" in outcome["last"]
    # Completions need no template.
    assert running.ask(RECORDED[0]["path"], RECORDED[0]["body"]) == POD_1

    without = pool(None)
    without.announce(1, *recorded(1))
    first = without.ask(chat["path"], chat["body"])
    assert [without.ask(chat["path"], chat["body"]) for _ in range(3)] == [first] * 3
    # A prompt that is tokens already needs no tokenizer.
    completion = RECORDED[0]
    without.expected_tokens()
    tokens = TOKENS[completion["file"]]["announced"]
    assert without.ask(completion["path"], {**completion["body"], "prompt": tokens}) == POD_1
    assert without.expected_tokens() == {"pod-1": len(tokens) // BLOCK * BLOCK}
    # What carries no prompt misses nothing.
    get = headers(without.pb, **{":path": "/v1/models", ":method": "GET"}, end_of_stream=True)
    assert without.destination(without.picker.exchange(get))
    assert without.fallbacks() == {"no_tokens": 4}
