"""Session affinity (endpoint-picker.md §11.3), and what reads a session's or an agent's identity from requests."""

import base64
import itertools
import json
import queue

import pytest

from policies import policy

from .messages import body, completion, headers, response_body, response_headers

PODS = 4
PLUGINS = {"filter": {"type": "session-affinity-filter", "weight": None}, "scorer": {"type": "session-affinity-scorer", "weight": 1}}
#: Gives every pod the same chance: only the session can make two choices equal again and again.
BY_LOT = {"type": "random-picker", "weight": None}


def with_session(kind, **parameters):
    """A picker's plugins: affinity by filter (any picker), or by scorer (with the picker that obeys scores)."""
    plugin = PLUGINS[kind] | {"parameters": parameters}
    return plugin, BY_LOT if kind == "filter" else {"type": "max-score-picker", "weight": None}


def started(start, *plugins, pods=PODS):
    picker = start(policy(*plugins))
    for index in range(pods):
        picker.pod(index)
    return picker


def mutation(headers_reply):
    return {option.header.key: option.header.raw_value.decode() for option in headers_reply.response.header_mutation.set_headers}


def exchanged(picker, **request_headers):
    """(destination, the answer's headers) of one completion."""
    replies = picker.exchange(
        headers(picker.pb, **request_headers),
        body(picker.pb, completion("m")),
        response_headers(picker.pb, status="200", content_type="application/json"),
        response_body(picker.pb, b"{}", end_of_stream=True),
    )
    parts = {reply.WhichOneof("response"): reply for reply in replies}
    destination = mutation(parts["request_headers"].request_headers)["x-gateway-destination-endpoint"]
    return destination, mutation(parts["response_headers"].response_headers)


def pod_of(destination):
    """Names of pods and their addresses, as `Picker.pod` gives them."""
    host = destination.removesuffix(":8000")
    return f"pod-{int(host.rpartition('.')[2]) - 1}"


@pytest.mark.parametrize("kind", PLUGINS)
def test_the_token_of_the_first_answer_leads_to_the_same_endpoint(start, kind):
    picker = started(start, *with_session(kind))
    tokens = {}
    for _ in range(200):
        destination, answer = exchanged(picker)
        token = answer["x-session-token"]
        assert base64.b64decode(token).decode() == f"default/{pod_of(destination)}"
        tokens[destination] = token
        if len(tokens) == PODS:
            break
    assert len(tokens) == PODS, "without a token every endpoint is chosen at times"
    for destination, token in tokens.items():
        for _ in range(3):
            again, answer = exchanged(picker, x_session_token=token)
            assert (again, answer["x-session-token"]) == (destination, token)


@pytest.mark.parametrize("kind", PLUGINS)
@pytest.mark.parametrize("token", ["nonsense", base64.b64encode(b"default/gone").decode()])
def test_a_token_without_an_endpoint_is_replaced(start, kind, token):
    picker = started(start, *with_session(kind))
    destination, answer = exchanged(picker, x_session_token=token)
    assert base64.b64decode(answer["x-session-token"]).decode() == f"default/{pod_of(destination)}"


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_profile_that_did_not_run_sets_no_token(start, kind):
    own, _ = with_session(kind)
    of_prefill, by = with_session(kind, profileName="prefill", encodedEndpointHeaderConfig={"header": "X-Session-Token-Prefill"})
    picker = started(start, own, {"name": "prefill", **of_prefill}, by)
    assert set(exchanged(picker)[1]) >= {"x-session-token"}
    assert "x-session-token-prefill" not in exchanged(picker)[1]


@pytest.mark.parametrize("kind", PLUGINS)
def test_the_header_wins_over_the_agents_identity_and_is_stable(start, kind):
    sources = [{"header": "x-session-id"}, {"attribute": "agent-identity"}]
    picker = started(start, *with_session(kind, strategy="session_id", sessionIdConfig={"sources": sources}), {"type": "agent-identity"})
    agents = (f"agent-{number}" for number in itertools.count())
    bound = {}
    for number in range(200):
        session = f"session-{number}"
        destination, answer = exchanged(picker, x_session_id=session, x_claude_code_session_id=next(agents))
        assert "x-session-token" not in answer
        bound.setdefault(destination, session)
        if len(bound) == PODS:
            break
    assert len(bound) == PODS
    for destination, session in bound.items():
        for _ in range(10):
            assert exchanged(picker, x_session_id=session, x_claude_code_session_id=next(agents))[0] == destination
    # Without the header the agent is the session.
    for agent in ("a", "b", "c"):
        assert len({exchanged(picker, x_claude_code_session_id=agent)[0] for _ in range(10)}) == 1


def test_a_cookie_can_be_the_session(start):
    sources = [{"attribute": "SessionID", "producer": "cookies"}]
    producer = {"type": "session-id-producer", "name": "cookies", "parameters": {"cookieName": "sid"}}
    picker = started(start, *with_session("filter", strategy="session_id", sessionIdConfig={"sources": sources}), producer)
    for session in range(8):
        chosen = {exchanged(picker, cookie=f"theme=dark; sid={session}; visits={visit}")[0] for visit in range(8)}
        assert len(chosen) == 1


@pytest.mark.parametrize("kind", PLUGINS)
def test_a_session_moves_when_its_endpoint_leaves_and_stays_there(start, kind):
    picker = started(start, *with_session(kind, strategy="session_id"))
    first, _ = exchanged(picker, x_session_id="s")
    assert picker.engine.remove_endpoint("default", pod_of(first))
    second, _ = exchanged(picker, x_session_id="s")
    assert second != first
    picker.pod(int(pod_of(first).removeprefix("pod-")))
    assert {exchanged(picker, x_session_id="s")[0] for _ in range(10)} == {second}


def test_sessions_outlive_a_reload_that_leaves_their_plugin_alone(start):
    plugins = with_session("filter", strategy="session_id")
    picker = started(start, *plugins)
    bound = {session: exchanged(picker, x_session_id=session)[0] for session in "abcdefgh"}
    picker.engine.reload(policy(*plugins, {"type": "queue-scorer", "weight": 1}))
    assert {session: exchanged(picker, x_session_id=session)[0] for session in bound} == bound


def test_an_agents_session_is_the_flow_of_a_request_that_names_none(start):
    picker = started(start, {"type": "agent-identity", "parameters": {"additionalSessionHeaders": ["X-Agent"]}}, BY_LOT)
    exchanged(picker, session_id="codex")
    exchanged(picker, x_agent="own")
    exchanged(picker, session_id="codex", x_llm_d_inference_fairness_id="tenant")
    exchanged(picker)
    for flow in ("codex", "own", "tenant", "default-flow"):
        assert picker.counter("request_total", fairness_id=flow) == 1, flow


def test_cold_requests_go_round(start):
    picker = started(start, {"type": "no-hit-lru-scorer", "weight": 1})
    prompts = [f"{number:04}" * 100 for number in range(2 * PODS)]

    def destination(prompt):
        replies = picker.exchange(headers(picker.pb), body(picker.pb, completion("m", prompt)))
        return mutation(replies[0].request_headers)["x-gateway-destination-endpoint"]

    first = [destination(prompt) for prompt in prompts]
    assert len(set(first[:PODS])) == PODS
    assert first[PODS:] == first[:PODS], "the one whose last cold request is the oldest is next"


def load(picker, **labels):
    return picker.counter("inflight_requests", **labels), picker.counter("inflight_tokens", **labels)


@pytest.mark.parametrize(("parameters", "after_first_token"), [({}, 0), ({"addEstimatedOutputTokens": True}, 8 + 12)])
def test_what_is_in_flight_shows_by_endpoint_and_flow(start, parameters, after_first_token):
    picker = started(start, {"type": "inflight-load-producer", "name": "load", "parameters": parameters}, BY_LOT, pods=1)
    messages = queue.SimpleQueue()
    replies = picker.process(iter(messages.get, None), timeout=10)
    messages.put(headers(picker.pb, x_llm_d_inference_fairness_id="tenant"))
    messages.put(body(picker.pb, completion("m", "x" * 32)))
    assert next(replies).WhichOneof("response") == "request_headers"
    assert next(replies).WhichOneof("response") == "request_body"
    reserved = 8 + (12 if parameters else 0)
    labels = {"endpoint_name": "pod-0", "namespace": "default", "producer_name": "load", "fairness_id": "tenant", "priority": "0"}
    assert load(picker, **labels) == (1, reserved)
    messages.put(response_headers(picker.pb, status="200", content_type="text/event-stream"))
    assert next(replies).WhichOneof("response") == "response_headers"
    assert load(picker) == (1, reserved)
    messages.put(response_body(picker.pb, b'data: {"choices":[]}\n\n', end_of_stream=False))
    assert next(replies).WhichOneof("response") == "response_body"
    assert load(picker) == (1, after_first_token)
    messages.put(response_body(picker.pb, b"data: [DONE]\n\n", end_of_stream=True))
    messages.put(None)
    assert [reply.WhichOneof("response") for reply in replies] == ["response_body"]
    assert load(picker, **labels) == (0, 0)


def test_in_flight_load_follows_the_endpoint_that_serves(start):
    picker = started(start, {"type": "inflight-load-producer"}, BY_LOT, pods=2)
    messages = queue.SimpleQueue()
    replies = picker.process(iter(messages.get, None), timeout=10)
    messages.put(headers(picker.pb))
    messages.put(body(picker.pb, completion("m")))
    chosen = pod_of(mutation(next(replies).request_headers)["x-gateway-destination-endpoint"])
    next(replies)
    other = {"pod-0": "pod-1", "pod-1": "pod-0"}[chosen]
    answer = response_headers(picker.pb, status="200", content_type="text/event-stream")
    fields = answer.metadata_context.filter_metadata["envoy.lb"].fields
    fields["x-gateway-destination-endpoint-served"].string_value = f"192.168.1.{int(other[-1]) + 1}:8000"
    messages.put(answer)
    next(replies)
    assert [load(picker, endpoint_name=name)[0] for name in (chosen, other)] == [0, 1]
    messages.put(None)
    assert list(replies) == []
    assert [load(picker, endpoint_name=name)[0] for name in (chosen, other)] == [0, 0]


def test_in_flight_load_shows_only_where_somebody_counts_it(start):
    for plugins, shown in [(({"type": "queue-scorer", "weight": 1},), False), (({"type": "token-load-scorer", "weight": 1},), True)]:
        picker = started(start, *plugins)
        exchanged(picker)
        assert bool(picker.families()["inflight_requests"]["samples"]) is shown


@pytest.mark.parametrize(("estimate", "tokens"), [({}, 225), ({"image": {"mode": "static", "static": {"staticToken": 7}}}, 7)])
def test_images_count_as_the_token_producer_says(start, estimate, tokens):
    picker = started(start, {"type": "token-producer", "parameters": {"estimate": estimate}}, BY_LOT, pods=1)
    content = [{"type": "image_url", "image_url": {"url": "http://images/one"}}]
    chat = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    picker.exchange(headers(picker.pb, **{":path": "/v1/chat/completions"}), body(picker.pb, chat))
    [picked] = [endpoint["prompt_tokens"] for endpoint in picker.engine.endpoints()]
    assert picked == tokens + 2, "the role and its end are 5 bytes"
