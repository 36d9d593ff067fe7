"""Model servers that fail."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .harness import SERVED, Gateway, ModelServer, eventually, running

_RETRIES = "cluster.models.upstream_rq_retry"


@pytest.fixture
def faulty(gateway: Gateway) -> Iterator[Gateway]:
    """Give the gateway, and clear its faults afterwards."""
    yield gateway
    gateway.clear_faults()


@pytest.mark.parametrize("kind", ["503", "reset", "refuse"])
def test_fault_before_the_first_byte_is_retried_on_another_endpoint(faulty: Gateway, kind: str) -> None:
    before = faulty.envoy_counter(_RETRIES)
    broken = set(faulty.endpoints[:2])
    for endpoint in broken:
        faulty.fault(endpoint, kind=kind, duration_seconds=8.0)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: faulty.complete(f"prompt {kind} {number}"), range(24)))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert {answer.headers[SERVED] for answer in answers}.isdisjoint(broken)
    assert faulty.envoy_counter(_RETRIES) > before
    eventually(lambda: faulty.inflight() == 0, "no load left")


def test_500_is_not_retried(faulty: Gateway) -> None:
    for endpoint in faulty.endpoints:
        faulty.fault(endpoint, kind="500")
    before = faulty.envoy_counter(_RETRIES)
    answer = faulty.complete("fail")
    assert answer.status_code == 500
    assert answer.headers[SERVED] in faulty.endpoints
    assert faulty.envoy_counter(_RETRIES) == before


def test_reset_in_the_middle_of_a_stream_ends_it_with_an_error_and_no_retry(faulty: Gateway) -> None:
    for endpoint in faulty.endpoints:
        faulty.fault(endpoint, kind="reset-mid-stream", after_chunks=3)
    before = faulty.envoy_counter(_RETRIES)
    document = {"model": "alpha", "prompt": "break", "max_tokens": 50, "stream": True}
    received = bytearray()

    def read() -> None:
        with faulty.http.stream("POST", "/v1/completions", json=document) as answer:
            assert answer.status_code == 200
            for part in answer.iter_raw():
                received.extend(part)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert received.startswith(b"data: ")
    assert b"[DONE]" not in received
    assert faulty.envoy_counter(_RETRIES) == before
    eventually(lambda: faulty.inflight() == 0, "no load left")


def test_all_endpoints_failing_before_the_first_byte_gets_503(faulty: Gateway) -> None:
    for endpoint in faulty.endpoints:
        faulty.fault(endpoint, kind="reset")
    answer = faulty.complete("nobody there")
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "service_unavailable"


def test_endpoint_that_is_down_gets_no_requests_until_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with ModelServer("one") as up, ModelServer("one") as other:
        port = other.port
        path.write_text(json.dumps({"endpoints": [{"name": str(at), "address": "127.0.0.1", "port": str(at)} for at in (up.port, port)]}))
        with running("--endpoints", str(path)) as gateway:
            other.close()
            told = gateway.wait_for("endpoints-down")
            assert told["endpoints"] == [other.address]
            assert "goes on without" in told["message"]
            eventually(lambda: {endpoint["address"] for endpoint in gateway.picker_endpoints()} == {up.address}, "the picker knows")
            before = gateway.envoy_counter(_RETRIES)
            assert {gateway.complete(f"{number}").headers[SERVED] for number in range(8)} == {up.address}
            assert gateway.envoy_counter(_RETRIES) == before
            with ModelServer("one", port):
                assert gateway.wait_for("endpoints-up")["endpoints"] == [other.address]
                eventually(lambda: len(gateway.picker_endpoints()) == 2, "the picker knows")


def test_pool_without_the_health_page_is_used_and_the_page_is_told(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with ModelServer("only") as server:
        path.write_text(json.dumps({"endpoints": [{"name": "only", "address": "127.0.0.1", "port": str(server.port)}]}))
        with running("--endpoints", str(path), "--health-path", "/missing") as gateway:
            assert "--health-path PATH" in gateway.wait_for("endpoints-down")["message"]
            assert gateway.complete("hello").status_code == 200


def test_endpoints_with_different_models_are_told() -> None:
    with ModelServer("one") as first, ModelServer("two") as second:
        arguments = ["--endpoint", f"http://{first.address}", "--endpoint", f"http://{second.address}"]
        with running(*arguments) as gateway:
            assert set(gateway.models) == {"one", "two"}
            assert any(event["event"] == "models-differ" for event in gateway.before_ready)


def test_no_endpoint_gets_503_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("endpoints: []\n")
    with running("--endpoints", str(path)) as gateway:
        answer = gateway.complete("hello")
        assert answer.status_code == 503
        # The picker's refusal; it is the one who knows.
        assert answer.headers["x-llm-d-request-dropped-reason"] == "rejected-no-endpoints"
        assert "inference error: ServiceUnavailable" in answer.text


def test_endpoints_that_all_fail_their_health_check_get_503_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    with ModelServer("only") as server:
        path.write_text(json.dumps({"endpoints": [{"name": "only", "address": "127.0.0.1", "port": str(server.port)}]}))
        with running("--endpoints", str(path)) as gateway:
            assert gateway.complete("hello").status_code == 200
            server.close()
            eventually(lambda: not gateway.usable(), "the dead endpoint is found out")
            answer = gateway.complete("hello")
            assert answer.status_code == 503
            assert answer.text
