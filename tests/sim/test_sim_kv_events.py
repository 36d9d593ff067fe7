"""KV events are vLLM's on the wire."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import msgpack  # type: ignore[import-untyped]
import pytest
import pytest_asyncio
import zmq
import zmq.asyncio

from warmroute.sim import SimConfig, SimPool, tokenizer
from warmroute.sim.errors import KvEventError
from warmroute.sim.kv_event_forms import EventWriter
from warmroute.sim.kv_events import KvEventPublisher, endpoint_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Batch = tuple[str, int, list[Any]]


def decode(frames: list[bytes]) -> Batch:
    topic, sequence, payload = frames
    return topic.decode(), int.from_bytes(sequence, "big"), msgpack.unpackb(payload)


@pytest_asyncio.fixture
async def event_pool() -> AsyncIterator[SimPool]:
    config = SimConfig(models=("tiny",), num_gpu_blocks=12, loras=("a1",), kv_events="tcp://*:0")
    async with SimPool(2, config) as pool:
        yield pool


@pytest_asyncio.fixture
async def subscriber(event_pool: SimPool) -> AsyncIterator[zmq.asyncio.Socket]:
    context = zmq.asyncio.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"kv@")
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    socket.connect(event_pool.kv_event_endpoints[0].replace("0.0.0.0", "127.0.0.1"))
    await monitor.recv_multipart()
    # The subscription travels after the handshake; the publisher sees it when it next looks, so ask until it answers.
    publisher = event_pool.replicas[0].publisher
    assert publisher is not None
    poller = zmq.asyncio.Poller()
    poller.register(socket, zmq.POLLIN)
    while not await poller.poll(20):
        event_pool.replicas[0].reset_prefix_cache()
    while await poller.poll(0):
        await socket.recv_multipart()
    yield socket
    context.destroy(linger=0)


async def complete(address: str, **body: object) -> None:
    async with aiohttp.ClientSession() as session:
        sent = {"model": "tiny", "max_tokens": 1, **body}
        async with session.post(f"http://{address}/v1/completions", json=sent) as response:
            assert response.status == 200


async def receive(subscriber: zmq.asyncio.Socket) -> Batch:
    return decode(await subscriber.recv_multipart())


@pytest.mark.asyncio
async def test_stored_blocks_are_told_as_recorded(event_pool: SimPool, subscriber: zmq.asyncio.Socket, recordings: Path) -> None:
    lines = (recordings / "kv-events.jsonl").read_text().splitlines()
    recorded = [decode([base64.b64decode(frame) for frame in json.loads(line)]) for line in lines]
    address = event_pool.addresses[0]
    text = "0123456789abcdef" * 8
    await complete(address, prompt=text)
    topic, sequence, (time, events, rank) = await receive(subscriber)
    assert topic == f"kv@{address}@tiny"
    assert (type(time), rank) == (float, 0)
    (event,) = events
    (theirs,) = recorded[0][2][1]
    assert list(event) == list(theirs)
    assert (event["parent_block_hash"], event["block_size"], len(event["block_hashes"])) == (None, 16, 2)
    assert event["token_ids"] == tokenizer.unpack(tokenizer.encode(text))
    assert event["extra_keys"] == [None, None]
    await complete(address, prompt=text + "z" * 64)
    _, following, (_, (longer,), _) = await receive(subscriber)
    assert following == sequence + 1
    assert longer["parent_block_hash"] == event["block_hashes"][-1]


@pytest.mark.asyncio
async def test_adapters_are_named_as_recorded(event_pool: SimPool, subscriber: zmq.asyncio.Socket) -> None:
    await complete(event_pool.addresses[0], model="a1", prompt="x" * 64)
    _, _, (_, (event,), _) = await receive(subscriber)
    assert (event["lora_id"], event["lora_name"], event["extra_keys"]) == (1, "a1", [["a1"]])


@pytest.mark.asyncio
async def test_eviction_and_reset_are_told(event_pool: SimPool, subscriber: zmq.asyncio.Socket) -> None:
    address = event_pool.addresses[0]
    stored: set[int] = set()
    for letter in "abc":
        await complete(address, prompt=letter * 64 * 5)
        _, _, (_, events, _) = await receive(subscriber)
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
    _, _, (_, events, _) = await receive(subscriber)
    assert events == [{"type": "AllBlocksCleared"}]


@pytest.mark.asyncio
async def test_what_was_missed_can_be_replayed(event_pool: SimPool) -> None:
    publisher = event_pool.replicas[0].publisher
    assert publisher is not None
    for text in ("a" * 64, "b" * 64, "c" * 64):
        await complete(event_pool.addresses[0], prompt=text)
    bound = publisher.serve_replay("tcp://*:0", event_pool.replicas[0].loop)
    context = zmq.asyncio.Context()
    try:
        socket = context.socket(zmq.REQ)
        socket.connect(bound.replace("0.0.0.0", "127.0.0.1"))
        await socket.send((1).to_bytes(8, "big"))
        first = await socket.recv_multipart()
        assert int.from_bytes(first[0], "big") == 1
        assert msgpack.unpackb(first[1])[1][0]["type"] == "BlockStored"
    finally:
        context.destroy(linger=0)


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
