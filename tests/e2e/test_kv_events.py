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


def serve(gateway: Gateway, endpoint: str, text: str) -> None:
    """Let a server answer a prompt without the gateway, and wait until the picker has heard of it."""
    heard = publishers(gateway)[endpoint]["messages"]
    ask(gateway, endpoint, text)
    eventually(lambda: publishers(gateway)[endpoint]["messages"] > heard, f"the event of {endpoint}")


def ask(gateway: Gateway, endpoint: str, text: str) -> None:
    """Let a server answer a prompt without the gateway."""
    body = {"model": gateway.models[0], "prompt": text, "max_tokens": 1}
    httpx.post(f"http://{endpoint}/v1/completions", json=body, timeout=SOON).raise_for_status()


def chosen(gateway: Gateway, text: str) -> tuple[str, int]:
    """Who serves a prompt through the gateway, and how many tokens of it were in the cache there."""
    answer = gateway.complete(text)
    assert answer.status_code == 200
    return answer.headers[SERVED], answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


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
    heard = publishers(gateway)[first]["messages"]
    httpx.post(f"http://{first}/reset_prefix_cache", timeout=SOON).raise_for_status()
    eventually(lambda: publishers(gateway)[first]["messages"] > heard, "the event that all is cleared")
    for text in texts:
        serve(gateway, second, text)
        served, cached = chosen(gateway, text)
        assert served == second
        assert cached > 100


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
