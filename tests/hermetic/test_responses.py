"""The response cases of the hermetic suite (endpoint-picker.md §11.1, 16-19) and the release of what a request reserved."""

import time

import pytest

from .messages import request, response_body, response_headers

UNARY = b'{"id":"1","usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":3}}}'


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.005)


def response_part(replies):
    return [reply for reply in replies if reply.WhichOneof("response").startswith("response_")]


def answered(picker, *messages):
    picker.pod(0)
    return response_part(picker.exchange(*request(picker.pb, "m", "m"), *messages))


def bodies(replies):
    return [
        (mutation.body, mutation.end_of_stream)
        for mutation in (reply.response_body.response.body_mutation.streamed_response for reply in replies[1:])
    ]


def histogram(picker, name):
    return sum(sample[1][-1] for sample in picker.families()[name]["samples"]), sum(sample[2] for sample in picker.families()[name]["samples"])


def test_16_a_plain_answer_leaves_in_one_piece(picker):
    replies = answered(
        picker,
        response_headers(picker.pb, content_type="application/json"),
        response_body(picker.pb, UNARY[:30], end_of_stream=False),
        response_body(picker.pb, UNARY[30:], end_of_stream=True),
    )
    mutation = {option.header.key: option.header.raw_value.decode() for option in replies[0].response_headers.response.header_mutation.set_headers}
    # The reference also echoes content-type; see test_requests.
    assert mutation == {"x-went-into-resp-headers": "true"}
    assert bodies(replies) == [(UNARY, True)]
    assert histogram(picker, "request_input_tokens") == (1, 7)
    assert histogram(picker, "request_output_tokens") == (1, 10)
    assert histogram(picker, "request_cached_tokens") == (1, 3)


def test_17_an_answer_that_is_no_json_passes_unchanged(picker):
    sent = b"no healthy upstream"
    replies = answered(picker, response_headers(picker.pb, content_type="application/json"), response_body(picker.pb, sent, end_of_stream=True))
    assert bodies(replies) == [(sent, True)]


def test_18_an_empty_last_chunk_adds_nothing(picker):
    replies = answered(
        picker,
        response_headers(picker.pb, content_type="application/json"),
        response_body(picker.pb, UNARY, end_of_stream=False),
        response_body(picker.pb, b"", end_of_stream=True),
    )
    assert bodies(replies) == [(UNARY, True)]


@pytest.mark.parametrize("cut", [None, 12, 40])
def test_19_events_pass_as_they_come_and_their_usage_counts_even_when_split(picker, cut):
    usage = b'data: {"usage":{"prompt_tokens":7,"total_tokens":17,"completion_tokens":10}}\n\ndata: [DONE]\n\n'
    pieces = [b"data: {}\n\n", *([usage] if cut is None else [usage[:cut], usage[cut:]])]
    replies = answered(
        picker,
        response_headers(picker.pb, content_type="text/event-stream", status="200"),
        *(response_body(picker.pb, piece, end_of_stream=False) for piece in pieces),
        response_body(picker.pb, b"", end_of_stream=True),
    )
    assert bodies(replies) == [*((piece, False) for piece in pieces), (b"", True)]
    assert histogram(picker, "request_input_tokens") == (1, 7)
    assert histogram(picker, "request_output_tokens") == (1, 10)


def test_the_model_in_the_answer_is_the_one_the_client_asked_for(picker):
    picker.pod(0)
    replies = response_part(
        picker.exchange(
            *request(picker.pb, "asked", "served"),
            response_headers(picker.pb, content_type="application/json"),
            response_body(picker.pb, b'{"model":"served","choices":[]}', end_of_stream=True),
        )
    )
    assert bodies(replies) == [(b'{"model":"asked","choices":[]}', True)]


def test_a_failed_answer_is_counted(picker):
    answered(picker, response_headers(picker.pb, **{":status": "500"}, content_type="text/plain", end_of_stream=True))
    assert picker.counter("request_error_total", error_code="ModelServerError") == 1


def load(picker):
    (row,) = picker.engine.endpoints()
    return row["inflight_requests"], row["inflight_tokens"], row["prefill_tokens"]


@pytest.mark.parametrize("messages", [0, 1, 2, 3])
def test_a_stream_that_ends_anywhere_releases_what_it_reserved(picker, messages):
    picker.pod(0)
    script = [
        *request(picker.pb, "m", "m"),
        response_headers(picker.pb, content_type="text/event-stream"),
        response_body(picker.pb, b"data: {}\n\n", end_of_stream=False),
    ]
    picker.exchange(*script[: messages + 1])
    wait_for(lambda: load(picker) == (0, 0, 0))
    assert picker.counter("request_running") == 0


def test_load_is_reserved_from_the_decision_and_prefill_until_the_first_token(picker):
    picker.pod(0)
    seen = []

    def script():
        yield from request(picker.pb, "m", "m")
        wait_for(lambda: load(picker)[0] == 1)
        seen.append(load(picker))
        yield response_headers(picker.pb, content_type="text/event-stream")
        yield response_body(picker.pb, b"data: {}\n\n", end_of_stream=False)
        wait_for(lambda: load(picker)[2] == 0)
        seen.append(load(picker))
        yield response_body(picker.pb, b"data: [DONE]\n\n", end_of_stream=True)

    list(picker.process(script(), timeout=20))
    wait_for(lambda: load(picker) == (0, 0, 0))
    assert seen == [(1, 1, 1), (1, 1, 0)]


def test_a_client_that_cancels_releases_the_load(picker):
    picker.pod(0)
    gate = []

    def script():
        yield from request(picker.pb, "m", "m")
        wait_for(lambda: gate)

    call = picker.process(script(), timeout=20)
    next(call)
    assert load(picker)[0] == 1
    call.cancel()
    wait_for(lambda: load(picker) == (0, 0, 0))
    gate.append(True)


def test_the_endpoint_that_served_takes_over_the_load(picker):
    picker.pod(0, 0, 0.1)
    picker.pod(1, 9, 0.9)
    seen = []

    def rows():
        return {row["address"]: row["inflight_requests"] for row in picker.engine.endpoints()}

    def script():
        yield from request(picker.pb, "m", "m")
        wait_for(lambda: rows()["192.168.1.1:8000"] == 1)
        served = response_headers(picker.pb, content_type="text/event-stream")
        served.metadata_context.filter_metadata["envoy.lb"].fields["x-gateway-destination-endpoint-served"].string_value = "192.168.1.2:8000"
        yield served
        wait_for(lambda: rows() == {"192.168.1.1:8000": 0, "192.168.1.2:8000": 1})
        seen.append(True)

    list(picker.process(script(), timeout=20))
    assert seen == [True]
    wait_for(lambda: set(rows().values()) == {0})
