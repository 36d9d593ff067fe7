"""The gRPC suite of the reference (endpoint-picker.md §11.2): `vllmgrpc-parser`, with queue, KV cache and prefix scorers.

As in test_requests, headers that are on the request already (here `:path`) are not echoed.
"""

import json
import struct

import pytest

from policies import policy

from .messages import body, headers, response_body, response_headers, with_subset
from .test_edges import kinds, trailers
from .test_requests import immediate, set_headers
from .test_responses import bodies, histogram, response_part, wait_for

GENERATE = "/vllm.grpc.engine.VllmEngine/Generate"
EMBED = "/vllm.grpc.engine.VllmEngine/Embed"
NO_CANDIDATES = "inference error: ServiceUnavailable - failed to find endpoint candidates for serving the request"


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def delimited(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def frame(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def generate(text: str = "test", *, stream: bool = False) -> bytes:
    return frame(delimited(1, b"request-1") + delimited(3, text.encode()) + (number(5, 1) if stream else b""))


def embed(*ids: int) -> bytes:
    return frame(delimited(1, b"request-1") + delimited(2, delimited(2, b"".join(map(varint, ids)))))


def complete(prompt: int, completion: int) -> bytes:
    return frame(delimited(2, delimited(1, b"\1\2\3") + delimited(2, b"stop") + number(3, prompt) + number(4, completion)))


def chunk(prompt: int, completion: int) -> bytes:
    return frame(delimited(1, delimited(1, b"\1") + number(2, prompt) + number(3, completion)))


def with_parsers(*types: str) -> str:
    """The suite's policy: three scorers of weight 1, and these parsers."""
    names = ("queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer")
    return policy(*({"type": name, "weight": 1} for name in names), parsers=types)


@pytest.fixture
def picker(start):
    return start(with_parsers("vllmgrpc-parser"))


def request(pb, content, path=GENERATE, *, pieces=1, **extra):
    first = headers(pb, x_request_id="test-request-id", content_type="application/grpc", **{":path": path}, **extra)
    size = -(-len(content) // pieces)
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    return [first, *(body(pb, part, end_of_stream=index == len(parts) - 1) for index, part in enumerate(parts))]


def routed(replies, sent):
    """Checks that the body left as it came and returns the destination."""
    first, *chunks = replies
    assert first.request_headers.response.clear_route_cache
    mutations = [chunk.request_body.response.body_mutation.streamed_response for chunk in chunks]
    assert b"".join(mutation.body for mutation in mutations) == sent
    assert [mutation.end_of_stream for mutation in mutations] == [False] * (len(mutations) - 1) + [True]
    assert set_headers(first.request_headers).keys() == {"x-gateway-destination-endpoint", "content-length"}
    assert set_headers(first.request_headers)["content-length"] == str(len(sent))
    return set_headers(first.request_headers)["x-gateway-destination-endpoint"]


@pytest.mark.parametrize(
    ("path", "content"),
    [(GENERATE, generate()), (EMBED, embed(1, 2, 70_000)), (GENERATE, generate(stream=True))],
    ids=["generate", "embed", "stream"],
)
def test_the_pod_with_the_lower_queue_and_kv_usage_gets_it(picker, path, content):
    picker.pod(0, 3, 0.2)
    picker.pod(1, 0, 0.1)
    picker.pod(2, 10, 0.2)
    replies = picker.exchange(*request(picker.pb, content, path, x_llm_d_inference_objective="inference-objective-with-priority-4"))
    assert routed(replies, content) == "192.168.1.2:8000"
    # Without objectives every priority is 0, as in test_requests.
    assert picker.counter("request_total", model_name="", target_model_name="", priority="0") == 1
    assert len(picker.engine.endpoints()) == 3


@pytest.mark.parametrize("pieces", [1, 2, 20])
def test_nothing_is_shed_and_a_body_in_pieces_is_one_request(picker, pieces):
    picker.pod(0, 6, 0.2)
    picker.pod(1, 0, 0.95)
    picker.pod(2, 10, 0.9)
    content = generate("a prompt that has more than one piece")
    assert routed(picker.exchange(*request(picker.pb, content, pieces=pieces)), content) == "192.168.1.1:8000"
    assert picker.counter("request_total", priority="0") == 1


def test_without_pods_a_request_without_body_gets_503_with_the_reason(picker):
    # The reference: 500; see test_requests, case 8.
    first = headers(picker.pb, end_of_stream=True, **{":path": GENERATE})
    assert immediate(picker.exchange(first)) == (503, NO_CANDIDATES, ["rejected-no-endpoints"])


@pytest.mark.parametrize(
    ("hint", "destination"),
    [
        (["192.168.1.1:8000", "192.168.1.2:8000", "192.168.1.3:8000"], "192.168.1.2:8000"),
        (["192.168.1.3:8000"], "192.168.1.3:8000"),
        (["192.168.1.99:8000"], None),
    ],
    ids=["best", "partial", "none"],
)
def test_only_the_subset_counts(picker, hint, destination):
    picker.pod(0, 0, 0.2)
    picker.pod(1, 0, 0.1)
    picker.pod(2, 10, 0.2)
    content = generate()
    replies = picker.exchange(*(with_subset(message, *hint) for message in request(picker.pb, content)))
    if destination:
        assert routed(replies, content) == destination
    else:
        assert immediate(replies) == (503, NO_CANDIDATES, ["rejected-no-endpoints"])


def answered(picker, content, *pieces):
    """What a request for which the engine sends these pieces and trailers gets on the response's side."""
    picker.pod(0)
    pb = picker.pb
    parts = [response_body(pb, piece, end_of_stream=False) for piece in pieces]
    head = response_headers(pb, content_type="application/grpc")
    return response_part(picker.exchange(*request(pb, content), head, *parts, trailers(pb, response=True)))


def test_an_answer_in_pieces_leaves_in_one_before_its_trailers(picker):
    sent = complete(7, 10)
    replies = answered(picker, generate(), sent[:9], sent[9:])
    assert kinds(replies) == ["response_headers", "response_body", "response_trailers"]
    assert set_headers(replies[0].response_headers) == {"x-went-into-resp-headers": "true"}
    assert bodies(replies[:-1]) == [(sent, False)]
    assert histogram(picker, "request_input_tokens") == (1, 7)
    assert histogram(picker, "request_output_tokens") == (1, 10)
    wait_for(lambda: picker.engine.endpoints()[0]["inflight_requests"] == 0)


def test_an_answer_that_is_no_grpc_passes_unchanged(picker):
    replies = answered(picker, generate(), b"invalid grpc")
    assert bodies(replies[:-1]) == [(b"invalid grpc", False)]
    assert histogram(picker, "request_input_tokens") == (0, 0)


@pytest.mark.parametrize("cut", [None, 3])
def test_frames_of_a_stream_pass_as_they_come_and_the_last_counts_count_even_when_split(picker, cut):
    first, last = chunk(7, 4), chunk(7, 10)
    pieces = [first, last] if cut is None else [first + last[:cut], last[cut:]]
    replies = answered(picker, generate(stream=True), *pieces)
    assert kinds(replies) == ["response_headers", "response_body", "response_body", "response_trailers"]
    assert bodies(replies[:-1]) == [(piece, False) for piece in pieces]
    assert histogram(picker, "request_input_tokens") == (1, 7)
    assert histogram(picker, "request_output_tokens") == (1, 10)


def test_an_equal_prompt_goes_where_its_prefix_is(picker):
    picker.pod(0)
    picker.pod(1)
    ids = list(range(2000))
    first = routed(picker.exchange(*request(picker.pb, embed(*ids), EMBED)), embed(*ids))
    again = [routed(picker.exchange(*request(picker.pb, embed(*ids, tail), EMBED)), embed(*ids, tail)) for tail in range(8)]
    assert again == [first] * 8


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (
            GENERATE,
            b"\1" + generate()[1:],
            "invalid or unsupported gRPC payload: compressed gRPC payload is not supported; send it without compression (grpc-encoding: identity)",
        ),
        (
            GENERATE,
            generate()[:-1],
            "invalid or unsupported gRPC payload: incomplete gRPC payload: header indicates 17 bytes, but only 16 bytes are available",
        ),
        (GENERATE, frame(b""), "not supported request inputType"),
        (EMBED, frame(b""), "missing tokenized input in EmbedRequest"),
        ("/v1/completions?x=1", b"{}", "no parser registered matching path suffix for: /v1/completions"),
    ],
    ids=["compressed", "incomplete", "no input", "no tokens", "no parser"],
)
def test_what_cannot_be_read_is_refused(picker, path, content, message):
    picker.pod(0)
    replies = picker.exchange(*request(picker.pb, content, path))
    assert immediate(replies) == (400, f"inference error: BadRequest - {message}", [])
    assert picker.counter("request_error_total", error_code="BadRequest") == 1


def test_a_request_without_body_needs_no_parser(picker):
    picker.pod(0)
    (reply,) = picker.exchange(headers(picker.pb, end_of_stream=True, **{":path": "/v1/models"}))
    assert set_headers(reply.request_headers)["x-gateway-destination-endpoint"] == "192.168.1.1:8000"


def test_an_unknown_parser_is_told_with_those_that_exist(start):
    # The configuration names no such parser; a policy that somebody makes by hand may.
    wrong = json.dumps(json.loads(with_parsers("vllmgrpc-parser")) | {"parsers": ["grpc"]})
    with pytest.raises(ValueError, match=r'unknown parser type "grpc"; the parsers are: openai-parser, .*, passthrough-parser'):
        start(wrong)
