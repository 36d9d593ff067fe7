"""What the tests of the simulator share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio

from kv_subscriber import Subscriber
from warmroute.sim import SimConfig, SimPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from warmroute.sim import Replica

RECORDINGS = Path(__file__).parent.parent / "data" / "vllm-0.32"


@pytest.fixture
def recordings() -> Path:
    """Answers of a real vLLM."""
    return RECORDINGS


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[SimPool]:
    """Two replicas that take no time, sizes as in the recordings."""
    config = SimConfig(models=("tiny",), block_size=32, num_gpu_blocks=65_536, loras=("a1",), max_loras=2)
    async with SimPool(2, config) as pool:
        yield pool


@pytest_asyncio.fixture
async def client(pool: SimPool) -> AsyncIterator[aiohttp.ClientSession]:
    """HTTP client of the first replica."""
    async with aiohttp.ClientSession(f"http://{pool.addresses[0]}") as session:
        yield session


def shape(value: object) -> object:
    """Structure of a JSON value: keys in order, types of leaves, first element of lists."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.fixture
def shape_of() -> Callable[[object], object]:
    """`shape`, for tests."""
    return shape


@pytest.fixture
def subscribed() -> Callable[[Replica], AbstractAsyncContextManager[Subscriber]]:
    """Subscribes to a replica's KV events."""

    @asynccontextmanager
    async def subscribe(replica: Replica) -> AsyncIterator[Subscriber]:
        subscriber = Subscriber(replica)
        try:
            await subscriber.ready()
            yield subscriber
        finally:
            subscriber.close()

    return subscribe
