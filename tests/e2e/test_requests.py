"""Requests that go well."""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmroute.local.summary import Summary

from .harness import DESTINATION, SERVED, SOON, Gateway, ModelServer, eventually, running

_MIB = 2**20


@pytest.fixture(scope="module")
def small_gateway() -> Iterator[Gateway]:
    """Give a gateway that takes small bodies only."""
    with running("--sim", "1", "--sim-model", "alpha", "--max-body", "256Ki") as started:
        yield started


def post_file(gateway: Gateway, directory: Path, padding: str, protocol: str) -> dict[str, Any]:
    """Send a completion of this size with curl; the answer's JSON, and its status when it is no 200."""
    # In a field that is no prompt: the context length of the model is not what is tested.
    document = {"model": "alpha", "max_tokens": 1, "metadata": {"padding": padding}, "prompt": "the end"}
    path = directory / "body.json"
    path.write_text(json.dumps(document))
    done = subprocess.run(
        [
            "curl",
            "-s",
            protocol,
            "-w",
            "\n%{http_code}",
            f"{gateway.url}/v1/completions",
            "-H",
            "content-type: application/json",
            "--data-binary",
            f"@{path}",
        ],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=True,
    )
    body, _, status = done.stdout.rpartition("\n")
    return {"status": int(status), **json.loads(body)}


def test_chat_completion_with_the_openai_client(gateway: Gateway) -> None:
    answer = gateway.openai().chat.completions.create(model="alpha", messages=[{"role": "user", "content": "hello"}], max_tokens=8)
    assert answer.model == "alpha"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_answer_names_the_endpoint_that_served(gateway: Gateway) -> None:
    assert gateway.complete("who are you").headers[SERVED] in gateway.endpoints


def test_models_are_found_and_listed(gateway: Gateway) -> None:
    assert set(gateway.models) == {"alpha", "beta"}
    assert {model.id for model in gateway.openai().models.list()} >= {"alpha", "beta"}


def test_stream_arrives_chunk_by_chunk(gateway: Gateway) -> None:
    stream = gateway.openai().chat.completions.create(model="alpha", messages=[{"role": "user", "content": "tell me"}], max_tokens=64, stream=True)
    started = time.monotonic()
    times = [time.monotonic() - started for _ in stream]
    assert len(times) >= 10
    # A gateway that collects the answer would give all chunks at its end.
    assert times[-1] - times[0] > 0.1
    assert times[len(times) // 2] < times[-1] - 0.03


def test_curl_line_of_the_summary_works() -> None:
    with running("--sim", "1") as gateway:
        fields = {key: value for key, value in gateway.ready.items() if key not in {"event", "message"}}
        line = Summary(**{**fields, "models": tuple(fields["models"]), "endpoints": tuple(fields["endpoints"])}).curl()
        done = subprocess.run([*shlex.split(line), "--silent", "--fail"], capture_output=True, timeout=SOON, check=True)
        assert json.loads(done.stdout)["object"] == "chat.completion"


def test_curl_streams_without_buffering(gateway: Gateway) -> None:
    body = json.dumps({"model": "alpha", "prompt": "count", "max_tokens": 20, "stream": True})
    done = subprocess.run(
        ["curl", "-sN", "--fail", f"{gateway.url}/v1/completions", "-H", "content-type: application/json", "-d", body],
        capture_output=True,
        timeout=SOON,
        check=True,
    )
    events = [line for line in done.stdout.split(b"\n") if line.startswith(b"data: ")]
    assert events[-1] == b"data: [DONE]"
    assert len(events) > 5


def test_two_models_at_the_same_time(gateway: Gateway) -> None:
    def ask(number: int) -> tuple[str, str]:
        model = ("alpha", "beta")[number % 2]
        answer = gateway.openai().completions.create(model=model, prompt=f"question {number}", max_tokens=4)
        return model, answer.model

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(64)))
    assert all(asked == answered for asked, answered in answers)
    eventually(lambda: gateway.inflight() == 0, "no load left")


def test_error_of_the_model_server_reaches_the_client(gateway: Gateway) -> None:
    answer = gateway.complete("hello", model="no-such-model")
    assert answer.status_code == 404
    assert answer.headers[SERVED] in gateway.endpoints
    assert "error" in answer.json()


@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
def test_large_bodies_pass(gateway: Gateway, tmp_path: Path, size: int, protocol: str) -> None:
    assert post_file(gateway, tmp_path, "x" * (size * _MIB), protocol)["object"] == "text_completion"


def test_body_over_the_limit_gets_413_with_the_limit(small_gateway: Gateway, tmp_path: Path) -> None:
    answer = post_file(small_gateway, tmp_path, "x" * 600_000, "--http1.1")
    assert answer["status"] == 413
    assert "262144" in answer["error"]["message"]


def test_body_over_the_limit_is_refused_over_http2(small_gateway: Gateway, tmp_path: Path) -> None:
    before = small_gateway.envoy_counter("cluster.models.upstream_rq_total")
    try:
        status = post_file(small_gateway, tmp_path, "x" * 600_000, "--http2-prior-knowledge")["status"]
    except subprocess.CalledProcessError as error:
        # The refusal comes during the upload, and ends it: curl 7.88 tells of the closed stream (92) instead of the answer.
        if error.returncode != 92:
            raise
    else:
        assert status == 413
    assert small_gateway.envoy_counter("cluster.models.upstream_rq_total") == before


def test_body_far_over_the_limit_gets_413_at_once(small_gateway: Gateway, tmp_path: Path) -> None:
    assert post_file(small_gateway, tmp_path, "x" * (20 * _MIB), "--http1.1")["status"] == 413


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
def test_body_under_a_small_limit_passes(small_gateway: Gateway, tmp_path: Path, protocol: str) -> None:
    assert post_file(small_gateway, tmp_path, "x" * 200_000, protocol)["object"] == "text_completion"


def test_client_that_leaves_frees_its_load(gateway: Gateway) -> None:
    document = {"model": "alpha", "prompt": "a long story", "max_tokens": 2000, "stream": True}
    with gateway.http.stream("POST", "/v1/completions", json=document) as answer:
        # Held: httpx ends the request when the iterator is dropped.
        parts = answer.iter_raw()
        next(parts)
        assert gateway.inflight() == 1
    eventually(lambda: gateway.inflight() == 0, "load of the abandoned request freed", timeout=2.0)


def test_decision_is_explained_to_who_asks() -> None:
    with running("--sim", "40", "--explain") as gateway:
        answer = gateway.complete("why there?", headers={"x-warmroute-explain": "1"})
        decision = json.loads(answer.headers["x-warmroute-decision"])
        assert decision["destination"].split(",")[0] == answer.headers[SERVED]
        assert decision["explanation"]["candidates"][0]["endpoint"] == answer.headers[SERVED]
        assert "x-warmroute-decision" not in gateway.complete("do not tell").headers


def test_decision_is_not_explained_without_the_flag(gateway: Gateway) -> None:
    assert "x-warmroute-decision" not in gateway.complete("why there?", headers={"x-warmroute-explain": "1"}).headers


def test_client_cannot_choose_the_endpoint(gateway: Gateway) -> None:
    wanted = gateway.endpoints[0]
    served = {gateway.complete(f"{number} distinct prompt", headers={DESTINATION: wanted}).headers[SERVED] for number in range(24)}
    assert served != {wanted}


def test_client_cannot_send_to_an_address_outside_the_pool(gateway: Gateway) -> None:
    with ModelServer("outside") as outside:
        answer = gateway.complete("hello", headers={DESTINATION: outside.address})
        assert answer.status_code == 200
        assert answer.headers[SERVED] in gateway.endpoints
        assert outside.requests == 0


def test_gateway_is_up_within_three_seconds_of_its_start(gateway: Gateway) -> None:
    # Twice the promise: tests share their machine.
    assert gateway.ready["seconds"] < 6.0


def test_metrics_and_admin_pages_answer(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.ready['admin']}/ready", timeout=SOON).text.strip() == "LIVE"
    assert {endpoint["address"] for endpoint in gateway.picker_endpoints()} == set(gateway.endpoints)
