"""BUFFERED, STREAMED and NONE: recognised from what Envoy sends on the first message."""

import json

import pytest

from .messages import body, completion, headers, response_body, response_headers
from .test_requests import immediate, set_headers

NONE, STREAMED, BUFFERED, PARTIAL, FULL_DUPLEX = range(5)


def first(pb, request_mode, response_mode=NONE, *, without_waiting=False, **extra):
    message = headers(pb, x_request_id="id", content_type="application/json", **extra)
    message.protocol_config.request_body_mode = request_mode
    message.protocol_config.response_body_mode = response_mode
    message.protocol_config.send_body_without_waiting_for_header_response = without_waiting
    message.protocol_config.SetInParent()
    return message


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
def test_buffered_chooses_in_the_body_reply_and_echoes_nothing(picker, mode):
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, mode), body(picker.pb, completion("m")))
    assert [reply.WhichOneof("response") for reply in replies] == ["request_headers", "request_body"]
    assert not set_headers(replies[0].request_headers)
    assert set_headers(replies[1].request_body) == {"x-gateway-destination-endpoint": "192.168.1.1:8000"}
    assert replies[1].request_body.response.clear_route_cache
    assert not replies[1].request_body.response.HasField("body_mutation")
    destination = replies[1].dynamic_metadata.fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value
    assert destination == "192.168.1.1:8000"


def test_buffered_with_a_renamed_model_replaces_body_and_length(picker):
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, BUFFERED, x_llm_d_model_name_rewrite="longer-name"), body(picker.pb, completion("m")))
    replaced = replies[1].request_body.response.body_mutation.body
    assert replaced == completion("longer-name")
    assert set_headers(replies[1].request_body)["content-length"] == str(len(replaced))


def test_streamed_chooses_from_the_headers(picker):
    picker.pod(0, 9, 0.9)
    picker.pod(1, 0, 0.1)
    chunks = [body(picker.pb, b'{"model":', end_of_stream=False), body(picker.pb, b'"m"}')]
    replies = picker.exchange(first(picker.pb, STREAMED), *chunks)
    assert [reply.WhichOneof("response") for reply in replies] == ["request_headers", "request_body", "request_body"]
    assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.2:8000"
    assert not any(reply.request_body.response.HasField("body_mutation") for reply in replies[1:])


@pytest.mark.parametrize("rename", [None, "other"])
def test_streamed_without_waiting_withholds_the_header_reply_until_it_has_decided(picker, rename):
    picker.pod(0)
    content = completion("m")
    extra = {"x_llm_d_model_name_rewrite": rename} if rename else {}
    chunks = [body(picker.pb, content[:20], end_of_stream=False), body(picker.pb, content[20:], end_of_stream=False), body(picker.pb, b"")]
    replies = picker.exchange(first(picker.pb, STREAMED, without_waiting=True, **extra), *chunks)
    assert [reply.WhichOneof("response") for reply in replies] == ["request_headers", *["request_body"] * 3]
    assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.1:8000"
    mutations = [reply.request_body.response.body_mutation for reply in replies[1:]]
    if rename:
        assert mutations[0].body == completion("other")
        assert all(mutation.clear_body for mutation in mutations[1:])
    else:
        assert not any(reply.request_body.response.HasField("body_mutation") for reply in replies[1:])


def test_without_a_body_mode_the_headers_decide(picker):
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, NONE))
    assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.1:8000"


def test_an_unneeded_response_body_is_declined(picker):
    picker.pod(0)
    replies = picker.exchange(first(picker.pb, BUFFERED, BUFFERED), body(picker.pb, completion("m")))
    assert replies[0].mode_override.request_body_mode == BUFFERED
    assert replies[0].mode_override.response_body_mode == NONE


def test_usage_asks_for_the_response_body_at_its_headers(start):
    picker = start(response_usage=True)
    picker.pod(0)
    content = response_headers(picker.pb, **{":status": "200"}, content_type="application/json")
    replies = picker.exchange(first(picker.pb, BUFFERED), body(picker.pb, completion("m")), content)
    assert replies[2].mode_override.response_body_mode == STREAMED
    assert replies[2].mode_override.request_body_mode == BUFFERED


def test_a_watched_stream_is_asked_for_at_its_headers_and_told_on_the_page(start):
    picker = start(response_sample=1.0)
    picker.pod(0)
    request = json.dumps({"model": "m", "prompt": "once upon a time", "stream": True}).encode()
    answer = response_headers(picker.pb, **{":status": "200"}, content_type="text/event-stream")
    events = [response_body(picker.pb, b'data: {"choices":[{"text":"x"}]}\n\n', end_of_stream=end) for end in (False, True)]
    replies = picker.exchange(first(picker.pb, BUFFERED), body(picker.pb, request), answer, *events)
    assert (replies[2].mode_override.request_body_mode, replies[2].mode_override.response_body_mode) == (BUFFERED, STREAMED)
    assert not any(reply.response_body.response.HasField("body_mutation") for reply in replies[3:])
    told = {labels[0]: count for labels, count in picker.families()["policy_signal_endpoints"]["samples"]}
    assert told == {"first_token": 1.0, "sampled": 0.0, "kv_events": 0.0, "counters": 0.0, "ends": 0.0, "none": 0.0}


def test_a_declared_length_over_the_limit_is_refused_at_the_headers(start):
    picker = start(max_body_bytes=1000)
    picker.pod(0)
    assert immediate(picker.exchange(first(picker.pb, BUFFERED, content_length="1001")))[0] == 413
