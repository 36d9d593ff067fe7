"""What a scorer in Python costs a decision: the same policy with it and without, side by side, over 100 endpoints.

`pytest bench/test_plugin.py` shows the table; the difference of the medians is the cost of the call. The function's own work is a handful of
numpy operations, measured apart. `receive` is what the grpcio host calls; the native host waits for the same hand-off without holding Python.
Times are shown, never asserted.
"""

import json
from itertools import count
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from warmroute._core import Engine, Exchange
from warmroute.plugins import registry
from warmroute.plugins.build import build
from warmroute.plugins.endpoints import COLUMNS, Endpoints, PoolView

ENDPOINTS = 100
DECISIONS = 5_000
WARMUP = 500
_DESTINATION = b"x-gateway-destination-endpoint"
(_SCORER,) = registry.load_module(str(Path(__file__).parent / "harness" / "least_scorer.py"))


def _engine(*, python: bool) -> Engine:
    policy = {"plugins": [{"type": "queue-scorer"}], "profiles": [{"name": "default", "plugins": [{"plugin": "queue-scorer", "weight": 1}]}]}
    plugins = {}
    if python:
        policy["plugins"].append({"type": "bench-scorer"})
        policy["profiles"][0]["plugins"].append({"plugin": "bench-scorer", "weight": 1})
        plugins["bench-scorer"] = build(_SCORER, "bench-scorer", None, 1.0)
    engine = Engine("{}", json.dumps(policy), plugins)
    for number in range(ENDPOINTS):
        engine.upsert_endpoint("default", f"endpoint-{number}", f"10.0.0.{number + 1}", 8000, {"zone": "abc"[number % 3]})
    engine.set_synced(synced=True)
    return engine


@pytest.mark.parametrize("python", [False, True], ids=["without", "with"])
def test_decision(benchmark: BenchmarkFixture, python: bool) -> None:
    engine = _engine(python=python)
    headers, bodies = _headers(), (_body(number) for number in count())

    def arrive() -> tuple[tuple[Exchange, bytes], dict[str, object]]:
        exchange = Exchange(engine)
        exchange.receive(headers)
        return (exchange, next(bodies)), {}

    def decide(exchange: Exchange, body: bytes) -> list[bytes]:
        return exchange.receive(body)[0]

    replies = benchmark.pedantic(decide, setup=arrive, rounds=DECISIONS, warmup_rounds=WARMUP)
    assert any(_DESTINATION in reply for reply in replies)
    assert engine.plugin_failures() == []
    benchmark.extra_info.update(endpoints=ENDPOINTS)


def test_function_alone(benchmark: BenchmarkFixture) -> None:
    """The function's own work, on endpoints that stand still."""

    class Still:
        rows = ENDPOINTS

        def columns(self) -> bytes:
            return bytes(ENDPOINTS * len(COLUMNS) * 8)

        def positions(self) -> None:
            return None

    endpoints = Endpoints(Still(), PoolView(None))
    scores = benchmark.pedantic(lambda: _SCORER.function(endpoints, None), rounds=DECISIONS, warmup_rounds=WARMUP)
    assert scores.tolist() == [1.0] * ENDPOINTS


def _headers() -> bytes:
    """`ProcessingRequest` with `request_headers` (2) and `protocol_config` (11) of a BUFFERED filter."""
    pairs = ((":method", "POST"), (":path", "/v1/chat/completions"), ("content-type", "application/json"), ("x-request-id", "bench"))
    entries = b"".join(_field(1, _field(1, key.encode()) + _field(3, value.encode())) for key, value in pairs)
    return _field(2, _field(1, entries)) + _field(11, b"\x08\x02")


def _body(number: int) -> bytes:
    """`ProcessingRequest` with a whole, short body (`request_body`, 4) and its end."""
    document = f'{{"model":"bench-model","messages":[{{"role":"user","content":"prompt {number}"}}]}}'
    return _field(4, _field(1, document.encode()) + b"\x10\x01")


def _field(number: int, content: bytes) -> bytes:
    length = len(content)
    encoded = bytearray([number << 3 | 2])
    while length >= 0x80:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + content
