"""KV events are vLLM's on the wire."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest
import pytest_asyncio

from warmroute.sim import SimConfig, SimPool, tokenizer
from warmroute.sim.errors import KvEventError
from warmroute.sim.kv_event_forms import EventWriter
from warmroute.sim.kv_events import KvEventPublisher, endpoint_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from kv_subscriber import Subscriber
    from warmroute.sim import Replica

Batch = tuple[str, int, list[Any]]


def decode(frames: list[bytes]) -> Batch:
    topic, sequence, payload = frames
    return topic.decode(), int.from_bytes(sequence, "big"), msgpack.unpackb(payload)


@pytest_asyncio.fixture
async def event_pool() -> AsyncIterator[SimPool]:
    config = SimConfig(models=("tiny",), num_gpu_blocks=12, loras=("a1",), kv_events="tcp://*:0", kv_events_replay="tcp://*:0")
    async with SimPool(2, config) as pool:
        yield pool


@pytest_asyncio.fixture
async def subscriber(event_pool: SimPool, subscribed: Callable[[Replica], AbstractAsyncContextManager[Subscriber]]) -> AsyncIterator[Subscriber]:
    async with subscribed(event_pool.replicas[0]) as subscriber:
        yield subscriber


async def complete(address: str, **body: object) -> None:
    async with aiohttp.ClientSession() as session:
        sent = {"model": "tiny", "max_tokens": 1, **body}
        async with session.post(f"http://{address}/v1/completions", json=sent) as response:
            assert response.status == 200


@pytest.mark.asyncio
async def test_stored_blocks_are_told_as_recorded(event_pool: SimPool, subscriber: Subscriber, recordings: Path) -> None:
    lines = (recordings / "kv-events.jsonl").read_text().splitlines()
    recorded = [decode([base64.b64decode(frame) for frame in json.loads(line)]) for line in lines]
    address = event_pool.addresses[0]
    text = "0123456789abcdef" * 8
    await complete(address, prompt=text)
    topic, sequence, (time, events, rank) = await subscriber.receive()
    assert topic == f"kv@{address}@tiny"
    assert (type(time), rank) == (float, 0)
    (event,) = events
    (theirs,) = recorded[0][2][1]
    assert list(event) == list(theirs)
    assert (event["parent_block_hash"], event["block_size"], len(event["block_hashes"])) == (None, 16, 2)
    assert event["token_ids"] == tokenizer.unpack(tokenizer.encode(text))
    assert event["extra_keys"] == [None, None]
    await complete(address, prompt=text + "z" * 64)
    _, following, (_, (longer,), _) = await subscriber.receive()
    assert following == sequence + 1
    assert longer["parent_block_hash"] == event["block_hashes"][-1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "a1"}, (1, "a1", [["a1"], ["a1"]])),
        ({"cache_salt": "salty"}, (None, None, [["salty"], None])),
        ({"model": "a1", "cache_salt": "salty"}, (1, "a1", [["a1", "salty"], ["a1"]])),
    ],
)
async def test_adapters_are_named_with_every_block_and_a_salt_with_the_first(
    event_pool: SimPool, subscriber: Subscriber, change: dict[str, str], said: tuple[int | None, str | None, list[Any]]
) -> None:
    await complete(event_pool.addresses[0], prompt="x" * 128, **change)
    (event,) = await subscriber.events()
    assert (event["lora_id"], event["lora_name"], event["extra_keys"]) == said


@pytest.mark.asyncio
async def test_a_medium_is_named_with_the_blocks_it_reaches_into_and_where_it_begins() -> None:
    config = SimConfig(models=("tiny",), block_size=64, kv_events="tcp://*:0")
    async with SimPool(1, config) as pool, aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        content = [{"type": "text", "text": "x" * 4 * 68}, {"type": "image_url", "image_url": {"url": "http://images/1"}, "uuid": "face"}]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 1}
        publisher = pool.replicas[0].publisher
        assert publisher is not None
        async with session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200
        ((_, payload),) = publisher._buffer
        (event,) = msgpack.unpackb(payload)[1]
        assert event["extra_keys"] == [None, [["face", 6]], [["face", -58]], [["face", -122]]]
        async with session.post("/v1/chat/completions/render", json=body) as response:
            rendered = await response.json()
        assert event["token_ids"] == rendered["token_ids"][: 4 * 64]


@pytest.mark.asyncio
async def test_eviction_and_reset_are_told(event_pool: SimPool, subscriber: Subscriber) -> None:
    address = event_pool.addresses[0]
    stored: set[int] = set()
    for letter in "abc":
        await complete(address, prompt=letter * 64 * 5)
        _, _, (_, events, _) = await subscriber.receive()
        for event in events:
            if event["type"] == "BlockStored":
                stored |= set(event["block_hashes"])
            else:
                assert (event["type"], event["medium"], event["group_idx"]) == ("BlockRemoved", "GPU", 0)
                assert set(event["block_hashes"]) <= stored
                stored -= set(event["block_hashes"])
    assert stored == set(event_pool.replicas[0].engine.cache._by_hash)
    async with aiohttp.ClientSession() as session, session.post(f"http://{address}/reset_prefix_cache") as response:
        assert response.status == 200
    _, _, (_, events, _) = await subscriber.receive()
    assert events == [{"type": "AllBlocksCleared"}]


@pytest.mark.asyncio
async def test_what_was_missed_can_be_replayed(event_pool: SimPool, subscriber: Subscriber) -> None:
    first = subscriber.publisher.sequence
    for text in ("a" * 64, "b" * 64, "c" * 64):
        await complete(event_pool.addresses[0], prompt=text)
    assert await subscriber.replay(first + 1) == [first + 1, first + 2]
    assert len(set(event_pool.kv_replay_endpoints)) == 2


@pytest.mark.asyncio
async def test_a_cleared_cache_is_told_unless_requests_hold_it() -> None:
    config = SimConfig(models=("tiny",), preset="h100-8b", kv_events="tcp://*:0")
    async with SimPool(1, config) as pool, aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        replica = pool.replicas[0]
        body = {"prompt": "x" * 4 * 100, "max_tokens": 1000, "stream": True}
        async with session.post("/v1/completions", json=body) as stream:
            await stream.content.readline()
            async with session.post("/reset_prefix_cache") as response:
                assert response.status == 200
            assert replica.engine.cache.named_blocks >= 6
            async with session.post("/reset_prefix_cache?reset_running_requests=true") as response:
                assert response.status == 200
            # The sequence starts over, after the step it is in.
            while not replica.engine.statistics.preemptions:
                await stream.content.readline()
            before = replica.engine.statistics.generation_tokens
            while replica.engine.statistics.generation_tokens == before:
                await stream.content.readline()
            assert replica.publisher is not None
            told = [event["type"] for _, payload in replica.publisher._buffer for event in msgpack.unpackb(payload)[1]]
        assert told.count("AllBlocksCleared") == 1
        # What it holds is announced once more, from the root.
        assert told[told.index("AllBlocksCleared") + 1] == "BlockStored"


@pytest.mark.asyncio
async def test_replicas_that_are_ranks_of_one_server_say_which() -> None:
    async with SimPool(2, SimConfig(models=("tiny",), kv_events="tcp://*:0", data_parallel=True)) as pool:
        for rank, replica in enumerate(pool.replicas):
            await complete(replica.address, prompt="x" * 64)
            assert replica.publisher is not None
            ((_, payload),) = replica.publisher._buffer
            assert msgpack.unpackb(payload)[2] == rank
            async with aiohttp.ClientSession(f"http://{replica.address}") as session:
                async with session.get("/metrics") as response:
                    assert f'vllm:prefix_cache_queries_total{{engine="{rank}",model_name="tiny"}} 16.0' in await response.text()
                async with session.get("/kv_event_sources") as response:
                    (source,) = (await response.json())["sources"]
            assert (source["dp_rank"], source["endpoint"]) == (rank, replica.publisher.endpoint)


def test_each_replica_has_its_port_and_a_taken_one_is_named() -> None:
    assert [endpoint_of("tcp://*:5557", index) for index in range(2)] == ["tcp://*:5557", "tcp://*:5558"]
    assert endpoint_of("tcp://*:0", 3) == "tcp://*:0"
    with pytest.raises(KvEventError, match="needs a port"):
        endpoint_of("tcp://host", 0)
    writer = EventWriter("map", 16, lambda _name: None)
    first = KvEventPublisher("tcp://*:0", "kv", writer)
    port = first.endpoint.rpartition(":")[2]
    with pytest.raises(KvEventError, match=port):
        KvEventPublisher(f"tcp://*:{port}", "kv", writer)
    first.close()
