"""Faults of the KV event publisher are what they say, and what is kept can be replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from warmroute.sim import Fault, Replica, SimConfig, SimConfigError, SimPool
from warmroute.sim.config import parse_faults

if TYPE_CHECKING:
    from kv_subscriber import Subscriber

Subscribe = Callable[[Replica], AbstractAsyncContextManager["Subscriber"]]
CONFIG = SimConfig(models=("tiny",), kv_events="tcp://*:0", kv_events_replay="tcp://*:0")


@pytest_asyncio.fixture
async def replica() -> AsyncIterator[Replica]:
    async with SimPool(1, CONFIG) as pool:
        yield pool.replicas[0]


async def ask(replica: Replica, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.request(method, f"http://{replica.address}{path}", json=body) as response:
        return response.status, await response.json()


def publish(replica: Replica, messages: int) -> None:
    for _ in range(messages):
        replica.reset_prefix_cache()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("kind", "live", "replayed"),
    [
        ("events-drop", [0, 1, 3, 4, 6], [0, 1, 2, 3, 4, 5, 6]),
        ("events-lose", [0, 1, 3, 4, 6], [0, 1, 3, 4, 6]),
        ("events-duplicate", [0, 1, 2, 2, 3, 4, 5, 5, 6], [0, 1, 2, 3, 4, 5, 6]),
        ("events-silent", [6], [0, 1, 2, 3, 4, 5, 6]),
    ],
)
async def test_each_third_message_is_hit_and_clearing_ends_it(
    replica: Replica, subscribed: Subscribe, kind: str, live: list[int], replayed: list[int]
) -> None:
    async with subscribed(replica) as subscriber:
        first = subscriber.publisher.sequence
        assert (await ask(replica, "POST", "/sim/fault", {"kind": kind, "every": 3}))[0] == 200
        publish(replica, 6)
        assert (await ask(replica, "DELETE", "/sim/fault"))[0] == 200
        assert [number - first for number in await subscriber.drain()] == live
        assert [number - first for number in await subscriber.replay(first)] == replayed


@pytest.mark.asyncio
async def test_requests_do_not_notice(replica: Replica) -> None:
    replica.set_fault(Fault("events-silent", scope="all"))
    status, _ = await ask(replica, "POST", "/v1/completions", {"model": "tiny", "prompt": "x" * 64, "max_tokens": 1})
    assert status == 200
    _, state = await ask(replica, "GET", "/sim/state")
    assert (state["fault"], state["kv_event_sequence"]) == ("events-silent", 1)


@pytest.mark.asyncio
async def test_a_silent_publisher_answers_no_replay_until_it_speaks_again(replica: Replica, subscribed: Subscribe) -> None:
    async with subscribed(replica) as subscriber:
        publish(replica, 2)
        last = subscriber.publisher.sequence - 1
        replica.set_fault(Fault("events-silent", duration_seconds=0.05))
        assert (await subscriber.replay(last)) == [last]
        assert replica.fault is None


@pytest.mark.asyncio
async def test_a_restart_begins_again_at_0_with_an_empty_cache_on_the_same_endpoint(replica: Replica, subscribed: Subscribe) -> None:
    body = {"model": "tiny", "prompt": "x" * 64 * 3, "max_tokens": 1}
    async with subscribed(replica) as subscriber:
        await ask(replica, "POST", "/v1/completions", body)
        publish(replica, 5)
        await ask(replica, "POST", "/v1/completions", body)
        await subscriber.drain()
        assert subscriber.publisher.sequence > 5
        assert (await ask(replica, "POST", "/sim/fault", {"kind": "events-restart"}))[0] == 200
        assert (subscriber.publisher.sequence, replica.fault, replica.engine.cache.named_blocks) == (0, None, 0)
        _, answer = await ask(replica, "POST", "/v1/completions", body)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert await subscriber.replay(0) == [0]
        # ZMQ connects again by itself; what was sent before that is lost, as with a real engine.
        await subscriber.heard()
        numbers = await subscriber.drain()
        assert numbers == list(range(numbers[0], subscriber.publisher.sequence))
        assert await subscriber.replay(0) == list(range(subscriber.publisher.sequence))


@pytest.mark.asyncio
async def test_only_so_many_messages_are_kept(subscribed: Subscribe) -> None:
    config = SimConfig(kv_events="tcp://*:0", kv_events_replay="tcp://*:0", kv_events_buffer=2)
    async with SimPool(1, config) as pool, subscribed(pool.replicas[0]) as subscriber:
        publish(pool.replicas[0], 5)
        last = subscriber.publisher.sequence - 1
        assert await subscriber.replay(0) == [last - 1, last]
        assert await subscriber.replay(last + 1) == []
        assert pool.kv_replay_endpoints == [subscriber.publisher.replay_endpoint]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["events-drop", "events-restart"])
async def test_without_events_their_faults_are_refused(pool: SimPool, kind: str) -> None:
    status, answer = await ask(pool.replicas[0], "POST", "/sim/fault", {"kind": kind})
    assert status == 400
    assert "--kv-events" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"faults": {None: Fault("events-drop")}}, "give kv_events"),
        ({"faults": {0: Fault("events-restart")}, "kv_events": "tcp://*:0"}, "POST /sim/fault"),
        ({"kv_events_replay": "tcp://*:0"}, "give kv_events"),
        ({"kv_events_form": "xml"}, "kv_events_form must be one of map"),
        ({"cpu_offload": "never"}, "cpu_offload must be one of stored"),
        ({"engine": "sglang", "cpu_blocks": 1, "cpu_offload": "evicted"}, "must be stored"),
        ({"kv_events_buffer": -1}, "kv_events_buffer must be 0 or more"),
    ],
)
def test_settings_that_make_no_sense_are_explained(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SimConfigError, match=words):
        SimConfig(**settings)


def test_faults_at_start_may_say_which_message_they_hit() -> None:
    assert parse_faults(["0=events-drop:5", "events-silent"]) == {0: Fault("events-drop", every=5), None: Fault("events-silent")}
    with pytest.raises(SimConfigError, match="every must be 1 or more"):
        parse_faults(["events-lose:0"])
