"""Faults are what they say, and a client that goes away frees its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from warmroute.sim import Fault, FaultError, SimConfig, SimConfigError, SimPool
from warmroute.sim.config import parse_faults

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 20}


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds; what is watched has no event to wait for."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


async def complete(pool: SimPool, replica: int = 0, **change: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        url = f"http://{pool.addresses[replica]}/v1/completions"
        async with session.post(url, json={**BODY, **change}) as response:
            return response.status, await response.text()


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [500, 503])
async def test_an_error_status_comes_before_anything_else(pool: SimPool, status: int) -> None:
    pool.set_fault(Fault(str(status)), replica=0)
    assert (await complete(pool))[0] == status
    assert (await complete(pool, 1))[0] == 200
    async with aiohttp.ClientSession() as session, session.get(f"http://{pool.addresses[0]}/health") as response:
        assert response.status == 200
    pool.set_fault(None)
    assert (await complete(pool))[0] == 200


@pytest.mark.asyncio
async def test_refuse_closes_the_port_and_clearing_opens_the_same_again(pool: SimPool) -> None:
    address = pool.addresses[0]
    async with aiohttp.ClientSession() as session:
        fault = {"kind": "refuse", "replica": 0}
        async with session.post(f"http://{pool.addresses[1]}/sim/fault", json=fault) as response:
            assert await response.json() == {"kind": "refuse", "replicas": [0]}
        with pytest.raises(aiohttp.ClientConnectorError):
            await complete(pool)
        async with session.delete(f"http://{pool.addresses[1]}/sim/fault?replica=all") as response:
            assert response.status == 200
    await until(lambda: pool.replicas[0].listening)
    assert pool.addresses[0] == address
    assert (await complete(pool))[0] == 200


@pytest.mark.asyncio
async def test_refuse_cuts_open_connections(pool: SimPool) -> None:
    async with aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        async with session.get("/health"):
            pass
        async with session.post("/sim/fault", json={"kind": "refuse"}) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("/health")


@pytest.mark.asyncio
async def test_reset_ends_the_connection_without_an_answer(pool: SimPool) -> None:
    pool.set_fault(Fault("reset"))
    with pytest.raises(aiohttp.ClientConnectionError):
        await complete(pool)


@pytest.mark.asyncio
async def test_reset_mid_stream_lets_its_number_of_chunks_pass(pool: SimPool) -> None:
    pool.set_fault(Fault("reset-mid-stream", after_chunks=3))
    received = b""
    async with aiohttp.ClientSession() as session:
        url = f"http://{pool.addresses[0]}/v1/completions"
        async with session.post(url, json={**BODY, "stream": True}) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientError):  # noqa: PT012 - the connection ends at some line
                while line := await response.content.readline():
                    received += line
    assert received.count(b"data: ") <= 3
    assert b"[DONE]" not in received
    with pytest.raises(aiohttp.ClientError):
        await complete(pool)
    assert pool.replicas[0].engine.cache.used_blocks == 0


@pytest.mark.asyncio
async def test_hang_holds_the_answer_until_it_is_cleared(pool: SimPool) -> None:
    pool.set_fault(Fault("hang"))
    answer = asyncio.create_task(complete(pool))
    await until(lambda: pool.replicas[0].held > 0)
    assert not answer.done()
    pool.set_fault(None)
    assert (await answer)[0] == 200
    pool.set_fault(Fault("hang", seconds=0.01))
    assert (await complete(pool))[0] == 200


@pytest.mark.asyncio
async def test_slow_starts_late_and_a_fault_can_end_by_itself(pool: SimPool) -> None:
    loop = asyncio.get_running_loop()
    pool.set_fault(Fault("slow", seconds=0.2))
    began = loop.time()
    await complete(pool)
    assert loop.time() - began >= 0.19
    pool.set_fault(Fault("500", duration_seconds=0.05))
    assert (await complete(pool))[0] == 500
    await until(lambda: pool.replicas[0].fault is None)
    assert (await complete(pool))[0] == 200


@pytest.mark.asyncio
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_frees_its_place(*, stream: bool) -> None:
    async with SimPool(1, SimConfig(models=("tiny",), preset="h100-8b")) as pool:
        replica = pool.replicas[0]
        asked = asyncio.create_task(complete(pool, max_tokens=100_000, stream=stream))
        await until(lambda: len(replica.engine.running) == 1)
        asked.cancel()
        await until(lambda: not replica.engine.running and not replica.open_requests)
        assert replica.engine.cache.used_blocks == 0
        assert replica.engine.statistics.finished["abort"] == 1


@pytest.mark.asyncio
async def test_a_wrong_fault_is_refused_with_its_reason(client: aiohttp.ClientSession) -> None:
    for body, word in (
        ({"kind": "explode"}, "kind must be one of"),
        ({"kind": "slow", "probability": 2}, "probability"),
        ({"kind": "slow", "seconds": "long"}, "seconds"),
        ({"kind": "slow", "colour": 1}, "unknown field 'colour'"),
        ({"kind": "slow", "replica": 9}, "replica must be"),
        ([], "dictionary"),
    ):
        async with client.post("/sim/fault", json=body) as response:
            assert response.status == 400
            assert word in (await response.json())["error"]["message"]


def test_start_faults_are_read_per_replica() -> None:
    faults = parse_faults(["500:0.1", "2=refuse"])
    assert faults == {None: Fault("500", probability=0.1), 2: Fault("refuse")}
    for value in ("explode", "500:x", "a=500"):
        with pytest.raises(SimConfigError, match="--fault"):
            parse_faults([value])
    with pytest.raises(FaultError, match="after_chunks"):
        Fault("reset-mid-stream", after_chunks=-1)
