"""What is rare or hostile: tunnels, trailers, streams that start in the middle, odd headers, frames without end."""

import threading
import time

import grpc
import pytest

from policies import policy

from .messages import body, completion, headers, request, response_body, response_headers
from .test_modes import BUFFERED, FULL_DUPLEX, NONE, STREAMED, first
from .test_requests import immediate, set_headers

DESTINATION = "x-gateway-destination-endpoint"


def kinds(replies):
    return [reply.WhichOneof("response") for reply in replies]


def trailers(pb, *, response=False):
    message = pb.ProcessingRequest()
    (message.response_trailers if response else message.request_trailers).SetInParent()
    return message


def with_mode(message, request_mode, response_mode):
    message.protocol_config.request_body_mode = request_mode
    message.protocol_config.response_body_mode = response_mode
    message.protocol_config.SetInParent()
    return message


def test_a_streamed_body_is_renamed_in_its_last_message(picker):
    picker.pod(0)
    content = completion("m", "x" * 1000)
    pieces = [body(picker.pb, content[:500], end_of_stream=False), body(picker.pb, content[500:], end_of_stream=False), body(picker.pb, b"")]
    replies = picker.exchange(first(picker.pb, STREAMED, x_llm_d_model_name_rewrite="another"), *pieces)
    assert kinds(replies) == ["request_headers", *["request_body"] * 3]
    mutations = [reply.request_body.response.body_mutation for reply in replies[1:]]
    assert [mutation.clear_body for mutation in mutations] == [True, True, False]
    assert mutations[2].body == completion("another", "x" * 1000)


def test_a_streamed_body_that_cannot_be_renamed_is_refused_and_releases_its_load(picker):
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, STREAMED, x_llm_d_model_name_rewrite="another"), body(picker.pb, b"no json"))
    assert kinds(replies) == ["request_headers", "immediate_response"]
    assert replies[1].immediate_response.status.code == 400
    assert picker.engine.endpoints()[0]["inflight_requests"] == 0
    assert picker.counter("request_error_total", error_code="BadRequest") == 1


@pytest.mark.parametrize("mode", [NONE, STREAMED, BUFFERED, FULL_DUPLEX])
def test_a_tunnel_is_decided_from_its_headers_and_its_bytes_pass(picker, mode):
    picker.pod(0)
    start = first(picker.pb, mode, mode, **{":method": "GET", ":path": "/v1/realtime", "upgrade": "websocket", "connection": "Upgrade"})
    chunks = [] if mode in (NONE, BUFFERED) else [body(picker.pb, b"\x81\x05hello", end_of_stream=False)] * 2
    answer = response_headers(picker.pb, **{":status": "101"})
    replies = picker.exchange(start, *chunks, answer)
    assert kinds(replies) == ["request_headers", *["request_body"] * len(chunks), "response_headers"]
    assert DESTINATION in set_headers(replies[0].request_headers)
    assert replies[0].HasField("mode_override") == (mode != FULL_DUPLEX)
    assert replies[0].mode_override.request_body_mode == NONE
    if mode == FULL_DUPLEX:
        echoed = [reply.request_body.response.body_mutation.streamed_response for reply in replies[1:-1]]
        assert [(chunk.body, chunk.end_of_stream) for chunk in echoed] == [(b"\x81\x05hello", False)] * 2
    assert picker.counter("request_error_total") == 0


def test_buffered_trailers_without_a_body_carry_the_choice(start):
    picker = start(policy({"type": "queue-scorer", "weight": 1}, parsers=("passthrough-parser",)))
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, BUFFERED, **{":path": "/anything"}), trailers(picker.pb))
    assert kinds(replies) == ["request_headers", "request_trailers"]
    assert replies[1].dynamic_metadata.fields["envoy.lb"].struct_value.fields[DESTINATION].string_value == "192.168.1.1:8000"


def test_full_duplex_trailers_end_the_body(picker):
    picker.pod(0)
    replies = picker.exchange(*request(picker.pb, "m", "m")[:1], body(picker.pb, completion("m"), end_of_stream=False), trailers(picker.pb))
    assert kinds(replies) == ["request_headers", "request_body", "request_trailers"]
    chunk = replies[1].request_body.response.body_mutation.streamed_response
    assert (chunk.body, chunk.end_of_stream) == (completion("m"), False)


@pytest.mark.parametrize("mode", [STREAMED, BUFFERED, FULL_DUPLEX])
def test_a_body_without_request_headers_passes(picker, mode):
    # request_header_mode SKIP: the upstream is chosen already; holding the body back would only run into the gateway's time-out.
    picker.pod(0)
    replies = picker.exchange(with_mode(body(picker.pb, b"abc"), mode, NONE))
    assert kinds(replies) == ["request_body"]
    mutation = replies[0].request_body.response.body_mutation
    assert (mutation.streamed_response.body, mutation.streamed_response.end_of_stream) == ((b"abc", True) if mode == FULL_DUPLEX else (b"", False))


def test_events_of_a_stream_that_starts_with_the_response_are_not_held_back(picker):
    start = with_mode(response_headers(picker.pb, content_type="text/event-stream"), NONE, FULL_DUPLEX)
    replies = picker.exchange(start, response_body(picker.pb, b"data: {}\n\n", end_of_stream=False))
    assert kinds(replies) == ["response_headers", "response_body"]
    assert replies[1].response_body.response.body_mutation.streamed_response.body == b"data: {}\n\n"


def test_full_duplex_response_trailers_release_what_was_held(picker):
    picker.pod(0)
    answer = [
        response_headers(picker.pb, content_type="application/json"),
        response_body(picker.pb, b"{}", end_of_stream=False),
        trailers(picker.pb, response=True),
    ]
    replies = picker.exchange(*request(picker.pb, "m", "m"), *answer)[2:]
    assert kinds(replies) == ["response_headers", "response_body", "response_trailers"]
    assert picker.engine.endpoints()[0]["inflight_requests"] == 0


def test_a_response_streamed_on_demand_loses_its_length_when_the_model_is_renamed(start):
    picker = start(response_usage=True)
    picker.pod(0)
    messages = [first(picker.pb, BUFFERED, x_llm_d_model_name_rewrite="another"), body(picker.pb, completion("m"))]
    replies = picker.exchange(*messages, response_headers(picker.pb, **{":status": "200"}, content_type="application/json", content_length="9"))
    assert replies[2].mode_override.response_body_mode == STREAMED
    assert list(replies[2].response_headers.response.header_mutation.remove_headers) == ["content-length"]


def test_values_that_are_no_text_and_repeated_lengths_do_no_harm(picker):
    picker.pod(0)
    start = headers(picker.pb, x_request_id="id", content_length="99999999999999999999999")
    for key in ("x-llm-d-model-name-rewrite", "x-llm-d-inference-objective", "x-llm-d-inference-fairness-id", ":path", "content-length", "\u00e9"):
        header = start.request_headers.headers.headers.add()
        header.key, header.raw_value = key, b"\xff\xfe\x00"
    replies = picker.exchange(start, body(picker.pb, completion("m")))
    assert kinds(replies) == ["request_headers", "request_body"]


def test_countless_empty_messages_are_refused(start):
    picker = start(max_body_bytes=1000)
    picker.pod(0)
    messages = [body(picker.pb, b"", end_of_stream=False)] * 1100
    assert immediate(picker.exchange(headers(picker.pb, hi="mom"), *messages))[:2] == (
        400,
        "inference error: BadRequest - request body comes in too many pieces",
    )


def test_a_streamed_body_of_declared_excess_length_is_refused(start):
    picker = start(max_body_bytes=1000)
    picker.pod(0)
    assert immediate(picker.exchange(first(picker.pb, STREAMED, content_length="1001")))[0] == 413


def test_refusals_are_counted_and_kept_for_the_log(picker):
    picker.pod(0)
    picker.exchange(headers(picker.pb, x_request_id="bad-one"), body(picker.pb, b"no json"))
    (refusal,), dropped = picker.engine.take_refusals()
    assert (refusal["request_id"], refusal["status"], refusal["code"], dropped) == ("bad-one", 400, "BadRequest", 0)
    assert refusal["message"].startswith("error unmarshaling")
    assert picker.engine.take_refusals() == ([], 0)
    assert picker.counter("request_error_total", error_code="BadRequest", model_name="") == 1


def test_every_plugin_is_timed(picker):
    picker.pod(0)
    picker.exchange(*request(picker.pb, "m", "m"))
    family = picker.families()["plugin_duration_seconds"]
    assert family["label_names"] == ["extension_point", "plugin_type", "plugin_name"]
    scorers = ("queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "lora-affinity-scorer")
    expected = [*(("Scorer", name, name) for name in scorers), ("Picker", "max-score-picker", "max-score-picker")]
    assert [tuple(sample[0]) for sample in family["samples"]] == expected
    assert {sample[1][-1] for sample in family["samples"]} == {1}


def test_streams_are_counted_when_asked_for(start):
    assert "extproc_streams_total" not in start().families()
    picker = start(stream_metrics=True)
    picker.pod(0)
    picker.exchange(*request(picker.pb, "m", "m"))
    with pytest.raises(grpc.RpcError):
        list(picker.channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")(iter([b"\xff"]), timeout=10))
    call = picker.process(iter_forever(headers(picker.pb, end_of_stream=True)), timeout=10)
    next(call)
    assert picker.counter("extproc_streams_inflight") == 1
    call.cancel()
    eventually(lambda: picker.counter("extproc_streams_inflight") == 0)
    # grpcio may read a reset as a half-close, and count it as OK.
    ended = {code: picker.counter("extproc_streams_total", code=code) for code in ("OK", "InvalidArgument", "Canceled")}
    assert ended in ({"OK": 1, "InvalidArgument": 1, "Canceled": 1}, {"OK": 2, "InvalidArgument": 1, "Canceled": 0})
    (duration,) = picker.families()["extproc_stream_duration_seconds"]["samples"]
    assert duration[1][-1] == 3


def iter_forever(message):
    """One message, and no end until the call is cancelled."""

    yield message
    threading.Event().wait(10)


def eventually(condition):

    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
