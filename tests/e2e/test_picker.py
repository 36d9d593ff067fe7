"""The picker dies; requests must not notice."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .harness import DESTINATION, SERVED, Gateway, eventually, is_gone, running

_ALLOWED = "http.gateway.ext_proc.failure_mode_allowed"


@pytest.fixture
def own_gateway() -> Iterator[Gateway]:
    """Give a gateway for one test: the picker's deaths are counted."""
    with running("--sim", "4") as gateway:
        yield gateway


def kill_picker(gateway: Gateway, pid: int) -> None:
    """End the picker at once; it cannot say anything any more."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid), "the picker is dead")


def test_killed_under_load_cuts_no_answer_and_is_restarted(own_gateway: Gateway) -> None:
    gateway = own_gateway
    streams = 24
    under_way = threading.Semaphore(0)

    def stream(number: int) -> bytes:
        document = {"model": gateway.models[0], "prompt": f"story {number}", "max_tokens": 100, "stream": True}
        received = b""
        with gateway.http.stream("POST", "/v1/completions", json=document) as answer:
            for part in answer.iter_raw():
                if not received:
                    under_way.release()
                received += part
        return received

    with ThreadPoolExecutor(streams + 8) as pool:
        open_answers = [pool.submit(stream, number) for number in range(streams)]
        for _ in range(streams):
            assert under_way.acquire(timeout=20)
        os.kill(gateway.pids["picker"], signal.SIGKILL)
        meanwhile = [pool.submit(gateway.complete, f"during {number}") for number in range(32)]
        assert [answer.result().status_code for answer in meanwhile] == [200] * len(meanwhile)
        for answer in open_answers:
            assert answer.result().endswith(b"data: [DONE]\n\n")
    restarted = gateway.wait_for("restarted")
    assert restarted["pid"] != gateway.pids["picker"]
    assert "SIGKILL" in restarted["message"]


def test_restarted_picker_picks_again(own_gateway: Gateway) -> None:
    gateway = own_gateway
    kill_picker(gateway, gateway.pids["picker"])
    gateway.wait_for("restarted")

    def picks() -> int:
        try:
            return sum(endpoint["picks"] for endpoint in gateway.picker_endpoints())
        except httpx.TransportError:
            # The new picker's page is not there yet.
            return 0

    def picked() -> bool:
        assert gateway.complete("again").status_code == 200
        return picks() > 0

    eventually(picked, "the new picker chooses")
    eventually(lambda: gateway.inflight() == 0, "no load left")


def test_without_a_picker_the_client_still_cannot_choose_the_endpoint(own_gateway: Gateway) -> None:
    gateway = own_gateway
    wanted = gateway.endpoints[0]
    before = gateway.envoy_counter(_ALLOWED)
    kill_picker(gateway, gateway.pids["picker"])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: gateway.complete(f"{number}", headers={DESTINATION: wanted}), range(24)))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert {answer.headers[SERVED] for answer in answers} != {wanted}
    # Else the picker was back too early, and nothing was shown.
    assert gateway.envoy_counter(_ALLOWED) > before


def test_python_host_serves_the_same_gateway() -> None:
    with running("--sim", "2", "--picker-host", "grpcio") as gateway:
        before = gateway.envoy_counter(_ALLOWED)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: gateway.complete(f"{number}"), range(24)))
        assert [answer.status_code for answer in answers] == [200] * len(answers)
        assert {answer.headers[SERVED] for answer in answers} == set(gateway.endpoints)
        assert gateway.envoy_counter(_ALLOWED) == before
        eventually(lambda: gateway.inflight() == 0, "no load left")


def test_picker_that_keeps_dying_ends_the_gateway(own_gateway: Gateway) -> None:
    gateway = own_gateway
    pid = gateway.pids["picker"]
    for _ in range(4):
        os.kill(pid, signal.SIGKILL)
        pid = gateway.wait_for("restarted")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert gateway.wait_for_end() == 1
    errors = gateway.errors_at_end()
    assert "picker was killed by SIGKILL 5 times within 30 s" in errors
    assert json.dumps(gateway.ready["logs"])[1:-1] in errors
    shutil.rmtree(gateway.ready["logs"])
    assert all(is_gone(pid) for pid in gateway.pids.values())
