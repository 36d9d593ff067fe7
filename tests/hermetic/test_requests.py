"""The request cases of the reference's hermetic suite (endpoint-picker.md §11.1), in the mode without CRDs: every priority is 0, no rewrite rules.

Where we differ on purpose, in every case here:
- headers that are on the request already are not echoed: `set_headers` carries the destination and the content length only. Echoing them is a
  no-op for single values, loses all but the last of repeated ones, and costs Envoy and the picker time;
- a renamed model is edited in place: the body is the client's bytes with one value changed, not re-serialised with sorted keys.
"""

import json

import pytest

from policies import policy

from .messages import body, completion, headers, request, with_subset

REASON = "x-llm-d-request-dropped-reason"


def set_headers(reply):
    return {option.header.key.lower(): option.header.raw_value.decode() for option in reply.response.header_mutation.set_headers}


def routed(replies, sent: bytes, model: str):
    """Checks the shape of a routed request and returns its destination."""
    first, *chunks = replies
    assert first.WhichOneof("response") == "request_headers"
    assert first.request_headers.response.clear_route_cache
    mutation = set_headers(first.request_headers)
    forwarded = b"".join(chunk.request_body.response.body_mutation.streamed_response.body for chunk in chunks)
    assert set(mutation) == {"x-gateway-destination-endpoint", "content-length"}
    assert mutation["content-length"] == str(len(forwarded))
    ends = [chunk.request_body.response.body_mutation.streamed_response.end_of_stream for chunk in chunks]
    assert ends == [False] * (len(chunks) - 1) + [True]
    assert json.loads(forwarded) == json.loads(sent) | {"model": model}
    metadata = first.dynamic_metadata.fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value
    assert metadata == mutation["x-gateway-destination-endpoint"]
    return metadata


def immediate(replies):
    assert len(replies) == 1
    reply = replies[0].immediate_response
    reasons = [option.header.raw_value.decode() for option in reply.headers.set_headers if option.header.key == REASON]
    return reply.status.code, reply.body.decode(), reasons


def test_01_the_pod_with_the_lower_queue_and_kv_usage_gets_it(picker):
    picker.pod(0, 3, 0.2)
    picker.pod(1, 0, 0.1)
    picker.pod(2, 10, 0.2)
    replies = picker.exchange(*request(picker.pb, "my-model", "my-model-12345"))
    assert routed(replies, completion("my-model"), "my-model-12345") == "192.168.1.2:8000"
    assert picker.counter("request_total", model_name="my-model", target_model_name="my-model-12345", priority="0") == 1
    assert len(picker.engine.endpoints()) == 3


def test_02_an_active_adapter_with_a_short_queue_gets_it(picker):
    picker.pod(0, 0, 0.2, "foo", "bar")
    picker.pod(1, 0, 0.1, "foo", "sql-lora-1fdg2")
    picker.pod(2, 10, 0.2, "foo", "bar")
    replies = picker.exchange(*request(picker.pb, "sql-lora", "sql-lora-1fdg2"))
    assert routed(replies, completion("sql-lora"), "sql-lora-1fdg2") == "192.168.1.2:8000"


def test_03_an_active_adapter_gets_it_despite_higher_kv_usage(picker):
    picker.pod(0, 10, 0.2, "foo", "bar")
    picker.pod(1, 10, 0.4, "foo", "sql-lora-1fdg2")
    picker.pod(2, 10, 0.3, "foo")
    replies = picker.exchange(*request(picker.pb, "sql-lora", "sql-lora-1fdg2"))
    assert routed(replies, completion("sql-lora"), "sql-lora-1fdg2") == "192.168.1.2:8000"


def test_04_a_payload_of_no_known_dialect_passes_with_its_bytes(start):
    picker = start(
        policy({"type": "queue-scorer", "weight": 1}, {"type": "kv-cache-utilization-scorer", "weight": 1}, parsers=("passthrough-parser",))
    )
    picker.pod(0, 3, 0.2)
    picker.pod(1, 0, 0.1)
    picker.pod(2, 10, 0.2)
    first = headers(picker.pb, hi="mom", x_request_id="test-request-id", x_llm_d_inference_objective="my-model")
    replies = picker.exchange(first, body(picker.pb, b"passthrough-parser"))
    assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.2:8000"
    assert replies[1].request_body.response.body_mutation.streamed_response.body == b"passthrough-parser"
    assert picker.counter("request_total", model_name="", target_model_name="", priority="0") == 1
    assert len(picker.engine.endpoints()) == 3


def test_05_nothing_is_shed_by_default(picker):
    picker.pod(0, 6, 0.2, "foo", "bar", "sql-lora-1fdg2")
    picker.pod(1, 0, 0.85, "foo")
    picker.pod(2, 10, 0.9, "foo")
    replies = picker.exchange(*request(picker.pb, "sql-lora", "sql-lora-1fdg2"))
    assert routed(replies, completion("sql-lora"), "sql-lora-1fdg2") == "192.168.1.1:8000"


def test_06_invalid_json_is_refused_with_the_reference_words(picker):
    picker.pod(0)
    replies = picker.exchange(headers(picker.pb, hi="mom"), body(picker.pb, b"no healthy upstream"))
    message = "inference error: BadRequest - error unmarshaling request bodyMap: invalid character 'o' in literal null (expecting 'u')"
    assert immediate(replies) == (400, message, [])


@pytest.mark.parametrize("chunks", [2, 5, 60])
def test_07_a_body_in_pieces_is_one_request(picker, chunks):
    picker.pod(0, 4, 0.2, "foo", "bar", "sql-lora-1fdg3")
    picker.pod(1, 4, 0.85, "foo", "sql-lora-1fdg3")
    replies = picker.exchange(*request(picker.pb, "sql-lora-sheddable", "sql-lora-1fdg3", chunks=chunks))
    assert routed(replies, completion("sql-lora-sheddable"), "sql-lora-1fdg3") == "192.168.1.1:8000"


def test_08_without_pods_a_request_without_body_gets_503_with_the_reason(picker):
    # The reference: 500 "inference error: Internal - no pods available in datastore". A pool without endpoints is not an internal error, clients and
    # gateways retry a 503, and requests with a body get a 503 from the reference too: ours is the same answer for both.
    replies = picker.exchange(headers(picker.pb, end_of_stream=True))
    message = "inference error: ServiceUnavailable - failed to find endpoint candidates for serving the request"
    assert immediate(replies) == (503, message, ["rejected-no-endpoints"])


def test_09_a_missing_model_is_refused(picker):
    picker.pod(0)
    replies = picker.exchange(headers(picker.pb, hi="mom"), body(picker.pb, b'{"prompt":"hello world"}'))
    assert immediate(replies) == (400, "inference error: BadRequest - model not found in request body", [])


def test_10_the_best_of_the_subset_gets_it(picker):
    picker.pod(0, 0, 0.2, "foo")
    picker.pod(1, 0, 0.1, "foo", "sql-lora-1fdg2")
    picker.pod(2, 10, 0.2, "foo")
    messages = [with_subset(m, "192.168.1.1:8000", "192.168.1.2:8000", "192.168.1.3:8000") for m in request(picker.pb, "sql-lora", "sql-lora-1fdg2")]
    assert routed(picker.exchange(*messages), completion("sql-lora"), "sql-lora-1fdg2") == "192.168.1.2:8000"


@pytest.mark.parametrize("hint", ["192.168.1.3:8000", "192.168.1.3"])
def test_11_only_the_subset_counts(picker, hint):
    picker.pod(0, 0, 0.2, "foo")
    picker.pod(1, 0, 0.1, "foo", "sql-lora-1fdg2")
    picker.pod(2, 10, 0.2, "foo")
    messages = [with_subset(m, hint) for m in request(picker.pb, "sql-lora", "sql-lora-1fdg2")]
    assert routed(picker.exchange(*messages), completion("sql-lora"), "sql-lora-1fdg2") == "192.168.1.3:8000"


@pytest.mark.parametrize("hint", [("192.168.1.99:8000",), ()])
def test_12_an_empty_subset_gets_503_with_the_reason(picker, hint):
    picker.pod(0, 0, 0.2, "foo")
    messages = [with_subset(m, *hint) for m in request(picker.pb, "sql-lora", "sql-lora-1fdg2")]
    message = "inference error: ServiceUnavailable - failed to find endpoint candidates for serving the request"
    assert immediate(picker.exchange(*messages)) == (503, message, ["rejected-no-endpoints"])


def test_13_a_rewrite_to_the_same_model_leaves_the_body_alone(picker):
    picker.pod(0)
    sent = b'{ "prompt": "test", "model": "direct-model" }'
    replies = picker.exchange(*request(picker.pb, "direct-model", "direct-model", sent, chunks=2))
    assert routed(replies, sent, "direct-model") == "192.168.1.1:8000"
    assert b"".join(reply.request_body.response.body_mutation.streamed_response.body for reply in replies[1:]) == sent


def test_15_a_get_is_scheduled_like_any_other_request(picker):
    # The reference picks at random here and ignores the subset hint.
    picker.pod(0, 9, 0.9)
    picker.pod(1, 0, 0.1)
    replies = picker.exchange(headers(picker.pb, end_of_stream=True, **{":method": "GET", ":path": "/v1/models"}, x_request_id="id"))
    assert [reply.WhichOneof("response") for reply in replies] == ["request_headers"]
    assert set_headers(replies[0].request_headers) == {"x-gateway-destination-endpoint": "192.168.1.2:8000"}
    subset = with_subset(headers(picker.pb, end_of_stream=True), "192.168.1.1:8000")
    assert set_headers(picker.exchange(subset)[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.1:8000"


def test_control_headers_are_taken_off(picker):
    picker.pod(0)
    replies = picker.exchange(*request(picker.pb, "m", "m"))
    removed = set(replies[0].request_headers.response.header_mutation.remove_headers)
    assert removed == {"x-llm-d-inference-objective", "x-llm-d-model-name-rewrite"}


def test_a_request_without_id_gets_one(picker):
    picker.pod(0)
    replies = picker.exchange(headers(picker.pb, hi="mom"), body(picker.pb, completion("m")))
    assert len(set_headers(replies[0].request_headers)["x-request-id"]) == 36


def test_the_fallback_list_is_ordered_and_bounded(start):
    picker = start(max_endpoints=2)
    for index, waiting in enumerate((5, 0, 9)):
        picker.pod(index, waiting, 0.1)
    replies = picker.exchange(*request(picker.pb, "m", "m"))
    assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "192.168.1.2:8000,192.168.1.1:8000"


def test_ipv6_endpoints_are_bracketed_and_match_hints(picker):
    picker.engine.upsert_endpoint("default", "v6", "2001:db8::1", 8000, {})
    for hint in ("2001:db8::1", "[2001:db8::1]:8000", "2001:db8:0::1"):
        messages = [with_subset(m, hint) for m in request(picker.pb, "m", "m")]
        replies = picker.exchange(*messages)
        assert set_headers(replies[0].request_headers)["x-gateway-destination-endpoint"] == "[2001:db8::1]:8000"


def test_scores_are_published_when_asked_for(start):
    picker = start(emit_endpoint_scores=True)
    picker.pod(0, 1, 0.1)
    picker.pod(1, 2, 0.1)
    replies = picker.exchange(*request(picker.pb, "m", "m"))
    scores = replies[0].dynamic_metadata.fields["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint-scores"].struct_value
    assert set(scores.fields) == {"192.168.1.1:8000", "192.168.1.2:8000"}
    assert scores.fields["192.168.1.1:8000"].number_value > scores.fields["192.168.1.2:8000"].number_value


def test_a_body_over_the_limit_gets_413_before_it_is_all_here(start):
    picker = start(max_body_bytes=1000)
    picker.pod(0)
    status, message, _ = immediate(picker.exchange(headers(picker.pb, hi="mom"), body(picker.pb, b" " * 1001, end_of_stream=False)))
    assert (status, message) == (413, "inference error: PayloadTooLarge - request body is larger than 1000 bytes")


def test_a_large_body_leaves_in_chunks_of_at_most_62000_bytes(picker):
    picker.pod(0)
    content = completion("m", "x" * 400_000)
    replies = picker.exchange(*request(picker.pb, "m", "m", content, chunks=7))
    assert routed(replies, content, "m") == "192.168.1.1:8000"
    sizes = [len(reply.request_body.response.body_mutation.streamed_response.body) for reply in replies[1:]]
    assert max(sizes) == 62_000
    assert len(sizes) == -(-len(content) // 62_000)


def test_messages_after_the_end_are_ignored(picker):
    # envoy#46237: some gateways send a second end of stream.
    picker.pod(0)
    replies = picker.exchange(*request(picker.pb, "m", "m"), body(picker.pb, b""))
    assert routed(replies, completion("m"), "m") == "192.168.1.1:8000"
