"""One pick through the extension module, with pytest-benchmark: an upper bound, because decoding and scanning the body are in it.

`pytest bench/test_pick.py` shows its table; `bench/run.py --only pick` puts its percentiles on the page. Times are shown, never asserted.
"""

import random
import string
from collections.abc import Iterator

from pytest_benchmark.fixture import BenchmarkFixture

from warmroute._core import Engine, Exchange
from warmroute.config.defaults import default_plan
from warmroute.config.flags import parse_flags
from warmroute.config.settings import engine_settings, policy_settings

ENDPOINTS = 100
PROMPT_BYTES = 8 * 1024
GROUPS = 64
SHARED = 0.8
DECISIONS = 20_000
WARMUP = 2_000
_DESTINATION = b"x-gateway-destination-endpoint"


def test_pick(benchmark: BenchmarkFixture) -> None:
    """Decide for prompts in groups that share their start, on an engine with 100 endpoints and the default policy."""
    plan = default_plan("marginal-latency")
    engine = Engine(engine_settings(parse_flags([])), policy_settings(plan))
    for number in range(ENDPOINTS):
        engine.upsert_endpoint("default", f"endpoint-{number}", f"10.0.0.{number + 1}", 8000, {})
    engine.set_synced(synced=True)
    headers = _headers()
    bodies = _bodies()

    def arrive() -> tuple[tuple[Exchange, bytes], dict[str, object]]:
        exchange = Exchange(engine)
        exchange.receive(headers)
        return (exchange, next(bodies)), {}

    def pick(exchange: Exchange, body: bytes) -> list[bytes]:
        return exchange.receive(body)[0]

    replies = benchmark.pedantic(pick, setup=arrive, rounds=DECISIONS, warmup_rounds=WARMUP)
    assert any(_DESTINATION in reply for reply in replies)
    benchmark.extra_info.update(endpoints=ENDPOINTS, prompt_bytes=PROMPT_BYTES)


def _headers() -> bytes:
    """`ProcessingRequest` with `request_headers` (2) and `protocol_config` (11) of a BUFFERED filter."""
    pairs = ((":method", "POST"), (":path", "/v1/chat/completions"), ("content-type", "application/json"), ("x-request-id", "bench"))
    entries = b"".join(_field(1, _field(1, key.encode()) + _field(3, value.encode())) for key, value in pairs)
    return _field(2, _field(1, entries)) + _field(11, b"\x08\x02")


def _bodies() -> Iterator[bytes]:
    """`ProcessingRequest`s with the whole body (`request_body`, 4) and its end."""
    source = random.Random(1)
    letters = string.ascii_lowercase + "     "
    shared_length = round(PROMPT_BYTES * SHARED)
    shared = ["".join(source.choices(letters, k=shared_length)) for _ in range(GROUPS)]
    while True:
        prompt = source.choice(shared) + "".join(source.choices(letters, k=PROMPT_BYTES - shared_length))
        document = f'{{"model":"bench-model","messages":[{{"role":"user","content":"{prompt}"}}]}}'
        yield _field(4, _field(1, document.encode()) + b"\x10\x01")


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
