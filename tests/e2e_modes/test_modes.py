"""What a client and a model server see of a request, whatever the body modes between Envoy and the picker."""

import hashlib
import json
import time

import pytest

from .gateway import MODES, SUBSET, TRAILER_MODES
from .upstream import EVENTS, HEAD_LENGTH

PATH = "/v1/chat/completions"
REWRITE = "x_llm_d_model_name_rewrite"
#: Without a request body the picker cannot rename a model in it.
SEES_REQUEST = [mode for mode in MODES if mode.request != "NONE"]
#: Where Envoy keeps the content-length; in the streaming modes it takes it off and sends chunks.
KNOWS_LENGTH = ("BUFFERED", "NONE")

modes = pytest.mark.parametrize("mode", MODES, ids=str)
modes_with_body = pytest.mark.parametrize("mode", SEES_REQUEST, ids=str)


def chat(model: str, size: int = 0, **fields: object) -> bytes:
    """A chat request of about `size` bytes, the model's name at the end."""
    document = {"messages": [{"role": "user", "content": "x" * size}], **fields, "model": model}
    return json.dumps(document, separators=(",", ":")).encode()


def seen(answer) -> dict:
    content = answer.read()
    assert answer.status == 200, content
    length = answer.headers["content-length"]
    assert length is None or int(length) == len(content)
    return json.loads(content)


def idle(setup) -> None:
    """All load is released."""
    deadline = time.monotonic() + 10
    while any(row["inflight_requests"] or row["inflight_tokens"] for row in setup.engine.endpoints()):
        assert time.monotonic() < deadline, setup.engine.endpoints()
        time.sleep(0.01)


@modes
@pytest.mark.parametrize("size", [1 << 10, 1 << 20, 16 << 20], ids=["1KB", "1MB", "16MB"])
def test_a_body_reaches_the_chosen_server_unchanged(setup, mode, size):
    body = chat("m", size)
    with setup.gateway.ask(mode, "POST", PATH, body, content_type="application/json") as answer:
        saw = seen(answer)
    assert saw["port"] == setup.first.port
    assert (saw["length"], saw["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    if mode.request in KNOWS_LENGTH:
        assert saw["headers"]["content-length"] == str(len(body))
    idle(setup)


@modes_with_body
@pytest.mark.parametrize("size", [1 << 10, 1 << 20, 16 << 20], ids=["1KB", "1MB", "16MB"])
@pytest.mark.parametrize("target", ["n", "another-name"], ids=["same-length", "longer"])
def test_a_renamed_model_reaches_the_server_and_the_body_has_the_right_length(setup, mode, size, target):
    if mode.request == "BUFFERED_PARTIAL":
        # Of a larger body Envoy shows the beginning only, and this one has its model at the end.
        size = min(size, 1 << 10)
    body = chat("m", size)
    with setup.gateway.ask(mode, "POST", PATH, body, content_type="application/json", **{REWRITE: target}) as answer:
        saw = seen(answer)
    expected = chat(target, size)
    assert (saw["length"], saw["sha256"]) == (len(expected), hashlib.sha256(expected).hexdigest())
    if mode.request in KNOWS_LENGTH:
        assert saw["headers"]["content-length"] == str(len(expected))
    assert "x-llm-d-model-name-rewrite" not in saw["headers"]
    # The answer names the model that the client asked for, wherever the picker sees the answer.
    if mode.response != "NONE":
        assert saw["model"] == "m"
    idle(setup)


@modes
def test_events_reach_the_client_one_by_one(setup, mode):
    with setup.gateway.ask(mode, "POST", PATH, chat("m", stream=True), content_type="application/json") as answer:
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/event-stream"
        for number in range(EVENTS):
            # The server holds the next event back until this one is here.
            line = answer.readline()
            assert json.loads(line.removeprefix(b"data: "))["choices"][0]["index"] == number
            assert answer.readline() == b"\n"
            if number < EVENTS - 1:
                setup.first.allow()
        rest = answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' in rest
    idle(setup)


@modes
@pytest.mark.parametrize("path", ["/v1/models", PATH])
def test_requests_without_a_body_are_scheduled(setup, mode, path):
    with setup.gateway.ask(mode, "GET", path) as answer:
        saw = seen(answer)
    assert (saw["port"], saw["method"], saw["length"]) == (setup.first.port, "GET", 0)
    with setup.gateway.ask(mode, "HEAD", path) as answer:
        assert answer.status == 200
        # Envoy takes the length off where it streams answers to the picker.
        assert answer.headers["content-length"] in (str(HEAD_LENGTH), None if mode.response not in ("NONE", "BUFFERED") else str(HEAD_LENGTH))
        assert answer.read() == b""
    with setup.gateway.ask(mode, "GET", path, **{SUBSET.replace("-", "_"): f"127.0.0.1:{setup.second.port}"}) as answer:
        assert seen(answer)["port"] == setup.second.port
    idle(setup)


@modes
def test_the_subset_hint_holds(setup, mode):
    hint = {SUBSET.replace("-", "_"): f"127.0.0.1:{setup.second.port}"}
    with setup.gateway.ask(mode, "POST", PATH, chat("m"), content_type="application/json", **hint) as answer:
        saw = seen(answer)
    assert saw["port"] == setup.second.port
    assert SUBSET not in saw["headers"]
    with setup.gateway.ask(mode, "POST", PATH, chat("m"), **{SUBSET.replace("-", "_"): "10.9.9.9"}) as answer:
        assert (answer.status, answer.headers["x-llm-d-request-dropped-reason"]) == (503, "rejected-no-endpoints")
    idle(setup)


@modes
def test_a_server_that_refuses_connections_is_passed_over(with_dead_first, mode):
    body = chat("m", 1 << 20)
    with with_dead_first.gateway.ask(mode, "POST", PATH, body, content_type="application/json") as answer:
        saw = seen(answer)
    assert saw["port"] == with_dead_first.first.port
    assert saw["sha256"] == hashlib.sha256(body).hexdigest()
    idle(with_dead_first)


@modes_with_body
def test_a_body_that_is_no_json_is_refused_or_passed(setup, mode):
    with setup.gateway.ask(mode, "POST", PATH, b"no json", content_type="application/json") as answer:
        content = answer.read()
    if mode.request == "STREAMED" and not mode.without_waiting:
        # The server has the headers before the picker sees the body: the server judges it.
        assert answer.status == 200
    else:
        assert (answer.status, content.startswith(b"inference error: BadRequest - error unmarshaling")) == (400, True)
    idle(setup)


@modes
def test_an_empty_body_is_a_body(setup, mode):
    with setup.gateway.ask(mode, "POST", "/anything", b"") as answer:
        assert seen(answer)["length"] == 0
    idle(setup)


@pytest.mark.parametrize("mode", TRAILER_MODES, ids=str)
def test_a_chunked_body_with_trailers_arrives(setup, mode):
    content = chat("m", 100_000)
    connection = setup.gateway.connect(mode)
    connection.connect()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
    connection.sock.sendall(head.encode())
    for start in range(0, len(content), 30_000):
        piece = content[start : start + 30_000]
        connection.sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.sock.sendall(b"0\r\nx-sum: 1\r\n\r\n")
    reader = connection.sock.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 200"), reader.read1()
    while reader.readline().strip():
        pass
    answer = reader.read1()
    connection.close()
    assert hashlib.sha256(content).hexdigest().encode() in answer
    idle(setup)


@modes
def test_an_upgraded_connection_carries_bytes_both_ways(setup, mode):
    connection = setup.gateway.connect(mode)
    connection.connect()
    connection.sock.sendall(b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
    reader = connection.sock.makefile("rb")
    assert reader.readline().startswith(b"HTTP/1.1 101")
    while reader.readline().strip():
        pass
    for line in (b"one\n", b"two\n"):
        connection.sock.sendall(line)
        assert reader.readline() == line
    reader.close()
    connection.close()
    idle(setup)
