"""What surrounds scheduling, through both hosts: the attribute reporter, endpoint scores, who served, the conditional gate, screeners (§4.5, §4.8, §11.3)."""

import json
from typing import Any

import pytest

from policies import policy
from warmroute.config.errors import ConfigError

from .messages import body, completion, headers, request, response_body, response_headers, with_subset
from .test_requests import immediate

USAGE = b'"usage":{"completion_tokens":10,"prompt_tokens":32,"total_tokens":42}'
UNARY = b'{"choices":[{"finish_reason":"stop","index":0}],"model":"modelName","object":"chat.completion",' + USAGE + b"}"
EVENTS = [b'data: {"choices":[]}\n\n', b"data: {" + USAGE + b"}\n\ndata: [DONE]\n\n", b""]


def reporter(
    name: str = "total-tokens-cost-reporter", key: str = "x-gateway-inference-request-cost", namespace: str = "envoy.lb", **attribute: Any
) -> dict[str, Any]:
    """The reference suite's own reporter, unless told otherwise."""
    known = {
        "key": {"namespace": namespace, "name": key},
        "expression": "usage.completion_tokens\n",
        "condition": "has(usage.completion_tokens)",
    }
    return {"type": "request-attribute-reporter", "name": name, "parameters": {"attributes": [known | attribute]}}


def metadata(reply: Any) -> dict[str, dict[str, float]]:
    """Numbers by name, by namespace."""
    return {
        namespace: {name: value.number_value for name, value in entries.struct_value.fields.items()}
        for namespace, entries in reply.dynamic_metadata.fields.items()
    }


def reported(picker: Any, *messages: Any) -> list[dict[str, dict[str, float]]]:
    """Metadata of each reply to the response."""
    picker.pod(0, 0, 0.1)
    replies = picker.exchange(*request(picker.pb, "modelName", "modelName"), *messages)
    return [metadata(reply) for reply in replies if reply.WhichOneof("response").startswith("response_")]


def unary(pb: Any) -> list[Any]:
    return [response_headers(pb, content_type="application/json", status="200"), response_body(pb, UNARY, end_of_stream=True)]


COST = {"envoy.lb": {"x-gateway-inference-request-cost": 10}}


def test_the_cost_of_a_plain_answer_is_on_the_reply_to_its_body(start):
    picker = start(policy(reporter()))
    assert reported(picker, *unary(picker.pb)) == [{}, COST]


def test_the_cost_of_a_streamed_answer_is_on_the_reply_to_its_last_event(start):
    picker = start(policy(reporter()))
    events = [response_body(picker.pb, piece, end_of_stream=index == len(EVENTS) - 1) for index, piece in enumerate(EVENTS)]
    assert reported(picker, response_headers(picker.pb, content_type="text/event-stream"), *events) == [{}, {}, {}, COST]


def test_the_cost_of_an_answer_with_trailers_is_on_the_reply_to_them(start):
    picker = start(policy(reporter()))
    trailers = picker.pb.ProcessingRequest()
    trailers.response_trailers.SetInParent()
    plain = [response_headers(picker.pb, content_type="application/json"), response_body(picker.pb, UNARY, end_of_stream=False), trailers]
    assert reported(picker, *plain) == [{}, {}, COST]


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param({"condition": "usage.completion_tokens > 10"}, id="condition"),
        pytest.param({"expression": "usage.completion_tokens - 10.0"}, id="zero"),
    ],
)
def test_nothing_is_told_of_a_zero_or_where_the_condition_is_false(start, attribute):
    picker = start(policy(reporter(**attribute)))
    assert reported(picker, *unary(picker.pb)) == [{}, {}]


def test_several_reporters_share_namespaces_and_a_failing_one_is_counted_alone(start):
    picker = start(
        policy(
            reporter("cost"),
            reporter("again", expression="usage.total_tokens"),
            reporter("prompt", "prompt", expression="usage.prompt_tokens"),
            reporter("elsewhere", "all", namespace="billing", expression="usage.total_tokens"),
            reporter("broken", "broken", expression="usage.ghost"),
        )
    )
    told = {"envoy.lb": {"x-gateway-inference-request-cost": 42, "prompt": 32}, "billing": {"all": 42}}
    assert reported(picker, *unary(picker.pb)) == [{}, told]
    assert picker.counter("plugin_failures_total", plugin_name="broken", reason="exception") == 1
    assert picker.counter("plugin_failures_total") == 1


def test_an_expression_that_is_no_cel_is_refused_by_name(start):
    with pytest.raises(ConfigError, match=r"plugins\[0\]\.parameters\.attributes\[0\]\.expression: is no valid CEL: 1:7: "):
        start(policy(reporter(expression="usage.")))


def test_the_body_is_asked_for_where_a_reporter_needs_it(start):
    """BUFFERED, where Envoy can be told not to send the response's body: it is told so only without a reporter."""

    def overrides(*plugins: dict[str, Any]) -> list[bool]:
        picker = start(policy(*plugins))
        picker.pod(0)
        first = headers(picker.pb, x_request_id="id")
        first.protocol_config.request_body_mode = picker.pb.ProcessingMode.BUFFERED
        first.protocol_config.response_body_mode = picker.pb.ProcessingMode.BUFFERED
        replies = picker.exchange(first, body(picker.pb, completion("m")), *unary(picker.pb))
        if plugins[1:]:
            assert metadata(replies[-1]) == COST
        return [reply.HasField("mode_override") for reply in replies]

    assert overrides({"type": "queue-scorer", "weight": 1}) == [True, False, False, False]
    assert overrides({"type": "queue-scorer", "weight": 1}, reporter()) == [False] * 4


@pytest.mark.parametrize("emit", [True, False])
def test_scores_of_every_candidate_are_told_where_asked(start, emit):
    picker = start(emit_endpoint_scores=emit)
    for index in range(3):
        picker.pod(index, index, index / 10)
    first = picker.exchange(*request(picker.pb, "m", "m"))[0]
    fields = first.dynamic_metadata.fields["envoy.lb"].struct_value.fields
    destination = fields["x-gateway-destination-endpoint"].string_value
    if not emit:
        assert set(fields) == {"x-gateway-destination-endpoint"}
        return
    scores = {name: value.number_value for name, value in fields["x-gateway-destination-endpoint-scores"].struct_value.fields.items()}
    assert set(scores) == {f"192.168.1.{index}:8000" for index in (1, 2, 3)}
    assert max(scores, key=scores.__getitem__) == destination
    assert min(scores.values()) >= 0


@pytest.mark.parametrize(
    ("namespace", "served", "told"),
    [
        (True, "192.168.1.1:8000", "192.168.1.1:8000"),
        (True, None, "fail: missing destination endpoint served metadata"),
        (False, None, "fail: missing envoy lb metadata"),
    ],
)
def test_the_verifier_tells_who_served_or_what_the_gateway_did_not_say(start, namespace, served, told):
    picker = start(policy({"type": "destination-endpoint-served-verifier"}))
    picker.pod(0)
    answer = response_headers(picker.pb, content_type="application/json")
    if namespace:
        answer.metadata_context.filter_metadata["envoy.lb"].SetInParent()
    if served:
        answer.metadata_context.filter_metadata["envoy.lb"].fields["x-gateway-destination-endpoint-served"].string_value = served
    replies = picker.exchange(*request(picker.pb, "m", "m"), answer)
    mutation = replies[-1].response_headers.response.header_mutation.set_headers
    values = {option.header.key: option.header.raw_value.decode() for option in mutation}
    assert values["x-conformance-test-served-endpoint"] == told


def test_a_request_that_prefers_a_warm_cache_gets_412_until_there_is_one(start):
    picker = start(policy({"type": "prefix-cache-scorer", "weight": 1}))
    picker.pod(0)
    prompt = "a prompt of more than one block " * 40

    def ask(**extra: str) -> list[Any]:
        return picker.exchange(headers(picker.pb, x_request_id="id", **extra), body(picker.pb, completion("m", prompt)))

    refused = (412, "inference error: PreconditionFailed - no decode worker has the requested KV cache", [])
    assert immediate(ask(prefer="respond-async, if-available; wait=5")) == refused
    assert ask()[0].WhichOneof("response") == "request_headers"
    assert ask(prefer="if-available")[0].WhichOneof("response") == "request_headers"
    assert picker.counter("request_error_total", error_code="PreconditionFailed") == 1


REVISION = "disaggregatedset.x-k8s.io/revision"
ROLE = "disaggregatedset.x-k8s.io/role"
ROLLOUT = {
    "type": "disaggregatedset-rollout-screener",
    "name": "rollout",
    "parameters": {
        "scope": {"labelSelector": "set=mine"},
        "headerSelectors": [{"name": "revision", "headerName": "x-disagg-revision", "labelKey": REVISION, "mode": "strict"}],
        "revisionGating": {"mode": "sum", "requireRoles": {"values": ["decode"]}},
    },
}
SCREENED = (503, "inference error: ServiceUnavailable - screeners eliminated all endpoint candidates", ["rejected-no-endpoints"])


def rollout(start: Any, *revisions: str, role: str = "decode", **settings: Any) -> Any:
    picker = start(policy(ROLLOUT, {"type": "queue-scorer", "weight": 1}), **settings)
    for index, revision in enumerate(revisions):
        labels = {"set": "mine", REVISION: revision, ROLE: role}
        picker.engine.upsert_endpoint("default", f"pod-{index}", f"192.168.1.{index + 1}", 8000, labels)
    return picker


def test_a_revision_that_is_asked_for_gets_the_request_and_is_told_on_the_answer(start):
    picker = rollout(start, "A", "B", "B")
    asked = [headers(picker.pb, x_request_id="id", x_disagg_revision="A"), body(picker.pb, completion("m"))]
    replies = picker.exchange(*asked, response_headers(picker.pb, content_type="application/json"))
    fields = replies[0].dynamic_metadata.fields["envoy.lb"].struct_value.fields
    assert fields["x-gateway-destination-endpoint"].string_value == "192.168.1.1:8000"
    mutation = replies[-1].response_headers.response.header_mutation.set_headers
    assert ("x-disagg-revision", b"A") in [(option.header.key, option.header.raw_value) for option in mutation]


def test_screeners_that_leave_nothing_refuse_with_503(start):
    picker = rollout(start, "A", "B", "B")
    asked = [headers(picker.pb, x_request_id="id", x_disagg_revision="C"), body(picker.pb, completion("m"))]
    assert immediate(picker.exchange(*asked)) == SCREENED
    assert picker.counter("disaggregatedset_strict_header_no_match_total", plugin_name="rollout", selector="revision") == 1
    shares = {labels[-1]: share for labels, share in picker.families()["disaggregatedset_revision_gating_share"]["samples"]}
    assert shares == {"A": pytest.approx(1 / 3), "B": pytest.approx(2 / 3)}

    picker = rollout(start, "A", role="prefill")
    assert immediate(picker.exchange(*request(picker.pb, "m", "m"))) == SCREENED


def test_a_subset_without_pods_is_told_before_any_screener_is_asked(start):
    picker = rollout(start, "A", role="prefill")
    replies = picker.exchange(*[with_subset(message, "192.168.1.99:8000") for message in request(picker.pb, "m", "m")])
    message = "inference error: ServiceUnavailable - failed to find endpoint candidates for serving the request"
    assert immediate(replies) == (503, message, ["rejected-no-endpoints"])


def test_the_explanation_tells_what_screeners_left(start):
    picker = rollout(start, "A", "B", "B", explain=True)
    asked = [headers(picker.pb, x_request_id="id", x_disagg_revision="B", x_warmroute_explain="1"), body(picker.pb, completion("m"))]
    replies = picker.exchange(*asked, response_headers(picker.pb, content_type="application/json"))
    mutation = replies[-1].response_headers.response.header_mutation.set_headers
    decision = next(json.loads(option.header.raw_value) for option in mutation if option.header.key == "x-warmroute-decision")
    assert decision["explanation"]["screeners"] == [{"name": "rollout", "type": "disaggregatedset-rollout-screener", "kept": 2}]
    assert len(decision["explanation"]["candidates"]) == 2


def test_a_peer_that_holds_the_prompt_is_named_and_never_by_a_client(start):
    picker = start(
        policy({"type": "prefix-cache-scorer", "weight": 1}, {"type": "p2p-source-producer"}, {"type": "header-based-testing-filter", "weight": 1})
    )
    for index in range(2):
        picker.pod(index)
    prompt = "a prompt of more than one block " * 40

    def ask(address: str) -> Any:
        first = headers(picker.pb, x_request_id="id", test_epp_endpoint_selection=address, x_kv_cache_source_host_port="203.0.113.7:1")
        reply = picker.exchange(first, body(picker.pb, completion("m", prompt)))[0]
        mutation = reply.request_headers.response.header_mutation
        told = {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}
        return told.get("x-kv-cache-source-host-port"), "x-kv-cache-source-host-port" in mutation.remove_headers

    assert ask("192.168.1.1") == (None, True), "nobody holds it yet"
    assert ask("192.168.1.1") == (None, True), "it holds it itself"
    assert ask("192.168.1.2") == ("192.168.1.1:8000", False)


PICTURE = "data:image/png;base64,iVBORw0KGgo="


def test_look_ups_in_encoder_caches_are_counted(start):
    picker = start(policy({"type": "mm-embeddings-cache-scorer", "weight": 1}, {"type": "mm-embeddings-cache-producer"}))
    for index in range(2):
        picker.pod(index)
    content = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    asked = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    first, second = headers(picker.pb, x_request_id="id"), body(picker.pb, asked)
    first.request_headers.headers.headers.add(key=":path", raw_value=b"/v1/chat/completions")
    destinations = set()
    for _ in range(5):
        fields = picker.exchange(first, second)[0].dynamic_metadata.fields["envoy.lb"].struct_value.fields
        destinations.add(fields["x-gateway-destination-endpoint"].string_value)
    assert len(destinations) == 1
    assert picker.counter("encoder_cache_queries_total", plugin_name="mm-embeddings-cache-producer", modality="image") == 5
    assert picker.counter("encoder_cache_hits_total", plugin_name="mm-embeddings-cache-producer", modality="image") == 4
    samples = picker.families()["encoder_cache_hit_ratio"]["samples"]
    assert [list(labels) for labels, *_ in samples] == [["mm-embeddings-cache-producer"] * 2]


def test_a_request_that_names_no_profile_gets_the_generic_429(start):
    plugins = [{"type": "queue-scorer"}, {"type": "header-profile-handler"}]
    profiles = [{"name": name, "plugins": [{"plugin": "queue-scorer"}]} for name in ("prefill", "decode")]
    picker = start(json.dumps({"plugins": plugins, "profiles": profiles}))
    picker.pod(0)

    def ask(**profile: str) -> list[Any]:
        return picker.exchange(headers(picker.pb, x_request_id="id", **profile), body(picker.pb, completion("m")))

    for profile in ({}, {"epp_profile": "prefill"}):
        assert ask(**profile)[0].WhichOneof("response") == "request_headers"
    message = "inference error: ResourceExhausted - failed to find target endpoint: no scheduling profile runs for the request"
    assert immediate(ask(epp_profile="encode")) == (429, message, [])
