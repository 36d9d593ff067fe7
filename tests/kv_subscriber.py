"""A subscriber to the KV events of a simulated model server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
import zmq
import zmq.asyncio

if TYPE_CHECKING:
    from warmroute.sim import Replica


class Subscriber:
    """Receives one replica's KV events."""

    def __init__(self, replica: Replica) -> None:
        """Connects; `ready` waits until events arrive."""
        assert replica.publisher is not None
        self.replica = replica
        self.publisher = replica.publisher
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.subscribe(b"kv@")
        self._socket.connect(replica.publisher.endpoint.replace("0.0.0.0", "127.0.0.1"))
        self._poller = zmq.asyncio.Poller()
        self._poller.register(self._socket, zmq.POLLIN)

    async def ready(self) -> None:
        """Ask until the publisher knows of the subscription (it travels after the handshake), and drop the answers."""
        await self.heard()
        await self.drain()

    async def heard(self) -> None:
        """Publish until a message arrives."""
        while not await self._poller.poll(20):
            self.replica.reset_prefix_cache()

    async def drain(self) -> list[int]:
        """Numbers of the messages that have arrived: those of one more, sent now, and of all before it."""
        self.replica.reset_prefix_cache()
        last = self.publisher.sequence - 1
        numbers: list[int] = []
        while last not in numbers:
            numbers.append((await self.receive())[1])
        return numbers

    async def receive(self) -> tuple[str, int, list[Any]]:
        """Topic, number and decoded payload of the next message."""
        topic, sequence, payload = await self._socket.recv_multipart()
        return topic.decode(), int.from_bytes(sequence, "big"), msgpack.unpackb(payload)

    async def events(self) -> list[Any]:
        """Events of the next message."""
        events: list[Any] = (await self.receive())[2][1]
        return events

    async def replay(self, start: int) -> list[int]:
        """Numbers of the messages that the publisher still has from `start` on."""
        socket = self._context.socket(zmq.DEALER)
        assert self.publisher.replay_endpoint is not None
        socket.connect(self.publisher.replay_endpoint.replace("0.0.0.0", "127.0.0.1"))
        await socket.send_multipart([b"", start.to_bytes(8, "big")])
        numbers: list[int] = []
        while (number := int.from_bytes((await socket.recv_multipart())[1], "big", signed=True)) >= 0:
            numbers.append(number)
        return numbers

    def close(self) -> None:
        """Close every socket."""
        self._context.destroy(linger=0)
