"""A pool of simulated model servers in the running event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .config import MAX_REPLICAS, SimConfig, SimConfigError
from .replica import Replica

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .faults import Fault

MAX_PORT = 65_535


class SimPool:
    """Replicas that share a process; `async with` starts and stops them.

    async with SimPool(2, SimConfig(models=("tiny",))) as pool:
        pool.addresses            # ["127.0.0.1:40001", "127.0.0.1:40002"]
        pool.replicas[0].requests # what it received
    """

    def __init__(self, replicas: int = 1, config: SimConfig | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """`port` 0: free ports; otherwise this and the following ones.

        Raises:
            SimConfigError: the number of replicas, the port or a setting cannot be.
        """
        if not 1 <= replicas <= MAX_REPLICAS:
            message = f"replicas must be between 1 and {MAX_REPLICAS}, not {replicas}"
            raise SimConfigError(message)
        if not 0 <= port <= MAX_PORT - (replicas - 1):
            message = f"port must leave room for {replicas} replicas up to {MAX_PORT}, or be 0; not {port}"
            raise SimConfigError(message)
        self.config = config or SimConfig()
        strangers = [replica for replica in self.config.faults if replica is not None and not 0 <= replica < replicas]
        if strangers:
            message = f"a fault is meant for replica {strangers[0]}, but the {replicas} replicas count from 0"
            raise SimConfigError(message)
        self.host = host
        self.port = port
        self.replicas: list[Replica] = []
        for index in range(replicas):
            self.replicas.append(Replica(index, self.config, self.replicas))

    @property
    def addresses(self) -> list[str]:
        """`host:port` of each replica."""
        return [replica.address for replica in self.replicas]

    @property
    def kv_event_endpoints(self) -> list[str]:
        """Where each replica publishes KV events; empty without them."""
        return [replica.publisher.endpoint for replica in self.replicas if replica.publisher is not None]

    @property
    def kv_replay_endpoints(self) -> list[str]:
        """Where each replica replays KV events; empty without replay."""
        publishers = [replica.publisher for replica in self.replicas if replica.publisher is not None]
        return [publisher.replay_endpoint for publisher in publishers if publisher.replay_endpoint is not None]

    def set_fault(self, fault: Fault | None, replica: int | None = None) -> None:
        """Give one replica (None: all) a fault, or clear it."""
        for target in self.replicas if replica is None else [self.replicas[replica]]:
            target.set_fault(fault)

    async def start(self) -> None:
        """Start every replica; when one cannot start, none stays.

        Raises:
            AddressError: an address cannot be used.
            KvEventError: an endpoint for KV events cannot be used.
        """
        try:
            for index, replica in enumerate(self.replicas):
                await replica.start(self.host, self.port + index if self.port else 0)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every replica at once."""
        await asyncio.gather(*(replica.stop() for replica in self.replicas))

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        await self.stop()
