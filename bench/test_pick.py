"""Single decisions, timed one by one through the extension module: an upper bound of one pick, because decoding and scanning are in it."""

import gc
import random
import string
import time
from collections.abc import Iterator
from statistics import quantiles

from harness.errors import BenchError
from harness.results import Json

ENDPOINTS = 100
PROMPT_BYTES = 8 * 1024
GROUPS = 64
SHARED = 0.8
DECISIONS = 20_000
WARMUP = 2_000
_DESTINATION = b"x-gateway-destination-endpoint"


def measure() -> Json:
    """Decide for prompts in groups that share their start, on an engine with 100 endpoints and the default policy."""
    try:
        from warmroute._core import Engine, Exchange  # noqa: PLC0415 - the other sections run without it
        from warmroute.config.defaults import default_plan  # noqa: PLC0415
        from warmroute.config.flags import parse_flags  # noqa: PLC0415
        from warmroute.config.settings import engine_settings  # noqa: PLC0415
    except ImportError as error:
        raise BenchError(f"the section `pick` needs the product: {error}") from error
    engine = Engine(engine_settings(default_plan("marginal-latency"), parse_flags([])))
    for number in range(ENDPOINTS):
        engine.upsert_endpoint("default", f"endpoint-{number}", f"10.0.0.{number + 1}", 8000, {})
    engine.set_synced(synced=True)
    headers = _headers()
    nanoseconds = []
    # A collection of Python's own garbage is no part of a pick.
    gc.disable()
    try:
        for body in _bodies(WARMUP + DECISIONS):
            exchange = Exchange(engine)
            exchange.receive(headers)
            start = time.perf_counter_ns()
            replies, _ = exchange.receive(body)
            nanoseconds.append(time.perf_counter_ns() - start)
            exchange.close()
            if not any(_DESTINATION in reply for reply in replies):
                raise BenchError(f"the engine chose no endpoint: {replies!r}")
    finally:
        gc.enable()
    percentiles = quantiles(nanoseconds[WARMUP:], n=100)
    return {
        "endpoints": ENDPOINTS,
        "prompt_bytes": PROMPT_BYTES,
        "decisions": DECISIONS,
        "p50_us": percentiles[49] / 1000,
        "p99_us": percentiles[98] / 1000,
    }


def _headers() -> bytes:
    """`ProcessingRequest` with `request_headers` (2) and `protocol_config` (11) of a BUFFERED filter."""
    pairs = ((":method", "POST"), (":path", "/v1/chat/completions"), ("content-type", "application/json"), ("x-request-id", "bench"))
    entries = b"".join(_field(1, _field(1, key.encode()) + _field(3, value.encode())) for key, value in pairs)
    return _field(2, _field(1, entries)) + _field(11, b"\x08\x02")


def _bodies(count: int) -> Iterator[bytes]:
    """`ProcessingRequest`s with the whole body (`request_body`, 4) and its end."""
    source = random.Random(1)
    letters = string.ascii_lowercase + "     "
    shared_length = round(PROMPT_BYTES * SHARED)
    shared = ["".join(source.choices(letters, k=shared_length)) for _ in range(GROUPS)]
    for _ in range(count):
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
