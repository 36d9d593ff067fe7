"""The picker goes by what the model servers say of their caches: requests that it never saw count too."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .harness import SERVED, SOON, Gateway, eventually, running


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Give a gateway on three simulated model servers that publish; one for all tests of this file."""
    with running("--sim", "3", "--sim-preset", "instant", "--kv-events", "--explain") as started:
        yield started


def prompt(name: str) -> str:
    """A prompt of many blocks that nothing else begins with."""
    return f"{name}: " + f"the story of {name}, told at length. " * 60


def publishers(gateway: Gateway) -> dict[str, dict[str, Any]]:
    """What the picker knows of each publisher; empty while it does not answer."""
    try:
        answer = httpx.get(f"{gateway.ready['metrics']}/debug/kv-events", timeout=SOON)
    except httpx.TransportError:
        return {}
    return {row["endpoint"]: row for row in answer.json()}


def all_connected(gateway: Gateway) -> bool:
    """All publishers are heard, and have said what they hold."""
    rows = publishers(gateway)
    return set(rows) == set(gateway.endpoints) and all(row["connected"] and not row["replaying"] for row in rows.values())


def heard(gateway: Gateway, endpoint: str) -> int:
    """How many messages of a server the picker has, live or replayed."""
    row = publishers(gateway)[endpoint]
    return int(row["messages"] + row["replayed_messages"])


def serve(gateway: Gateway, endpoint: str, text: str) -> None:
    """Let a server answer a prompt without the gateway, and wait until the picker has heard of it."""
    before = heard(gateway, endpoint)
    ask(gateway, endpoint, text)
    eventually(lambda: heard(gateway, endpoint) > before, f"the event of {endpoint}")


def ask(gateway: Gateway, endpoint: str, text: str) -> None:
    """Let a server answer a prompt without the gateway."""
    body = {"model": gateway.models[0], "prompt": text, "max_tokens": 1}
    httpx.post(f"http://{endpoint}/v1/completions", json=body, timeout=SOON).raise_for_status()


def chosen(gateway: Gateway, text: str) -> tuple[str, int]:
    """Who serves a prompt through the gateway, and how many tokens of it were in the cache there."""
    answer = gateway.complete(text)
    assert answer.status_code == 200
    return answer.headers[SERVED], answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def expected_cached(gateway: Gateway, text: str) -> dict[str, bool]:
    """Send a prompt through the gateway; in whose cache the picker expected most of it."""
    chosen(gateway, text)
    (decision,) = httpx.get(f"{gateway.ready['metrics']}/debug/decisions", params={"limit": 1}, timeout=SOON).json()
    tokens = decision["prompt_tokens"]
    return {found["endpoint"]: found["uncached_tokens"] < tokens / 2 for found in decision["explanation"]["candidates"]}


def test_prompt_goes_to_the_server_that_has_it_at_the_first_time(gateway: Gateway) -> None:
    eventually(lambda: all_connected(gateway), "all publishers connected")
    holders = {prompt(f"first {number}"): gateway.endpoints[number % 3] for number in range(9)}
    for text, endpoint in holders.items():
        serve(gateway, endpoint, text)
    for text, endpoint in holders.items():
        served, cached = chosen(gateway, text)
        assert served == endpoint
        assert cached > 100


def test_cache_that_was_cleared_counts_no_longer(gateway: Gateway) -> None:
    eventually(lambda: all_connected(gateway), "all publishers connected")
    first, second, _ = gateway.endpoints
    texts = [prompt(f"cleared {number}") for number in range(6)]
    for text in texts:
        serve(gateway, first, text)
    before = heard(gateway, first)
    httpx.post(f"http://{first}/reset_prefix_cache", timeout=SOON).raise_for_status()
    eventually(lambda: heard(gateway, first) > before, "the event that all is cleared")
    for text in texts:
        serve(gateway, second, text)
        assert expected_cached(gateway, text) == {endpoint: endpoint == second for endpoint in gateway.endpoints}


def test_server_that_was_started_again_has_nothing_of_before(gateway: Gateway) -> None:
    eventually(lambda: all_connected(gateway), "all publishers connected")
    first = gateway.endpoints[0]
    before, after = prompt("before the restart"), prompt("after the restart")
    serve(gateway, first, before)
    gateway.fault(first, kind="events-restart")
    serve(gateway, first, after)
    eventually(lambda: all_connected(gateway), "what the new one says is heard")
    assert expected_cached(gateway, after) == {endpoint: endpoint == first for endpoint in gateway.endpoints}
    assert not any(expected_cached(gateway, before).values())


def test_messages_that_were_lost_are_asked_for(gateway: Gateway) -> None:
    eventually(lambda: all_connected(gateway), "all publishers connected")
    third = gateway.endpoints[2]
    replays = publishers(gateway)[third]["replays"]
    gateway.fault(third, kind="events-silent")
    texts = [prompt(f"silent {number}") for number in range(4)]
    for text in texts:
        ask(gateway, third, text)
    gateway.clear_faults()
    serve(gateway, third, prompt("heard again"))
    eventually(lambda: publishers(gateway)[third]["replays"] > replays and all_connected(gateway), "a replay")
    assert [chosen(gateway, text)[0] for text in texts] == [third] * len(texts)


def test_picker_that_is_started_again_knows_what_was_served_before(gateway: Gateway) -> None:
    eventually(lambda: all_connected(gateway), "all publishers connected")
    first, second, third = gateway.endpoints
    holders = {prompt(f"remembered {number}"): endpoint for number, endpoint in enumerate((first, second, third) * 2)}
    for text, endpoint in holders.items():
        serve(gateway, endpoint, text)
    os.kill(gateway.pids["picker"], signal.SIGKILL)
    gateway.pids["picker"] = gateway.wait_for("restarted")["pid"]
    eventually(lambda: all_connected(gateway) and all(row["replays"] for row in publishers(gateway).values()), "the publishers were asked")
    assert {text: chosen(gateway, text)[0] for text in holders} == holders
