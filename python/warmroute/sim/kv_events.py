"""KV events over ZMQ in vLLM's wire format: topic, 8-byte big-endian sequence number, msgpack `[time, events, rank]`.

Each event is a map, as vLLM 0.32 sends it. A second socket (ROUTER) replays what is still buffered: a client sends
the sequence number it wants to start from and gets `["", sequence, payload]` for each, then sequence -1.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
import zmq

from . import tokenizer
from .cache import BlocksRemoved, BlocksStored
from .errors import KvEventError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .cache import CacheEvent

BUFFERED_BATCHES = 10_000
"""Batches kept for replay."""
HIGH_WATER_MARK = 100_000
"""Messages a slow subscriber may be behind before it loses some."""
_END = (-1).to_bytes(8, "big", signed=True)


class KvEventPublisher:
    """Publishes one replica's cache changes. Sending never blocks."""

    def __init__(self, endpoint: str, topic: str, block_size: int, adapter_number: Callable[[str], int | None]) -> None:
        """Bind when the endpoint contains `*`, otherwise connect: vLLM's rule. `adapter_number`: id of a LoRA name.

        Raises:
            KvEventError: the endpoint is taken or malformed.
        """
        self.topic = topic
        self._block_size = block_size
        self._adapter_number = adapter_number
        self._sequence = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=BUFFERED_BATCHES)
        self._replay: zmq.Socket[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: zmq.Socket[bytes] = _context().socket(zmq.PUB)
        self._socket.set_hwm(HIGH_WATER_MARK)
        self._socket.linger = 0
        self.endpoint = _attach(self._socket, endpoint)

    def publish(self, events: list[CacheEvent]) -> None:
        """Send one batch; nothing when there are no events."""
        if not events:
            return
        payload = msgpack.packb([time.time(), [self._event(event) for event in events], 0])
        self._buffer.append((self._sequence, payload))
        self._socket.send_multipart((self.topic.encode(), self._sequence.to_bytes(8, "big"), payload), zmq.NOBLOCK)
        self._sequence += 1

    def serve_replay(self, endpoint: str, loop: asyncio.AbstractEventLoop) -> str:
        """Answer replay requests at this endpoint; the endpoint as bound.

        Raises:
            KvEventError: the endpoint is taken or malformed.
        """
        self._replay = _context().socket(zmq.ROUTER)
        self._replay.linger = 0
        bound = _attach(self._replay, endpoint)
        self._loop = loop
        loop.add_reader(_descriptor(self._replay), self._answer_replays)
        self._answer_replays()
        return bound

    def close(self) -> None:
        """Close the sockets; what is unsent is lost."""
        if self._replay is not None and self._loop is not None:
            self._loop.remove_reader(_descriptor(self._replay))
            self._replay.close()
        self._socket.close()

    def _answer_replays(self) -> None:
        # The descriptor signals edges: everything has to be read each time.
        while self._replay is not None and _readable(self._replay):
            frames = self._replay.recv_multipart(zmq.NOBLOCK)
            if len(frames) < 2 or len(frames[-1]) != 8:  # noqa: PLR2004 - identity and an 8-byte number
                continue
            start = int.from_bytes(frames[-1], "big")
            try:
                for sequence, payload in self._buffer:
                    if sequence >= start:
                        self._replay.send_multipart((frames[0], b"", sequence.to_bytes(8, "big"), payload), zmq.NOBLOCK)
                self._replay.send_multipart((frames[0], b"", _END, b""), zmq.NOBLOCK)
            except zmq.Again:
                # The client reads too slowly: it misses the end marker and asks again from where it got to.
                continue

    def _event(self, event: CacheEvent) -> dict[str, Any]:
        if isinstance(event, BlocksStored):
            extra = None if event.lora is None else [event.lora]
            return {
                "type": "BlockStored",
                "block_hashes": event.hashes,
                "parent_block_hash": event.parent,
                "token_ids": tokenizer.unpack(event.tokens),
                "block_size": self._block_size,
                "lora_id": None if event.lora is None else self._adapter_number(event.lora),
                "medium": "GPU",
                "lora_name": event.lora,
                "extra_keys": [extra] * len(event.hashes),
                "group_idx": 0,
                "kv_cache_spec_kind": "full_attention",
            }
        if isinstance(event, BlocksRemoved):
            return {"type": "BlockRemoved", "block_hashes": event.hashes, "medium": "GPU", "group_idx": 0}
        return {"type": "AllBlocksCleared"}


def endpoint_of(template: str, replica: int) -> str:
    """The template's endpoint for a replica: its port plus the index; port 0 stays 0.

    Raises:
        KvEventError: the template has no port, or port 0 where it is not bound.
    """
    head, _, port = template.rpartition(":")
    if not head or not port.isdigit():
        message = f"KV event endpoint {template!r} needs a port, as in tcp://*:5557"
        raise KvEventError(message)
    if int(port) == 0 and "*" not in head:
        message = f"KV event endpoint {template!r} is connected to (only one with * is bound), and there is no port 0 to connect to; tcp://*:0 takes a free port"
        raise KvEventError(message)
    return f"{head}:{int(port) + replica if int(port) else 0}"


def _descriptor(target: zmq.Socket[bytes]) -> int:
    return int(target.getsockopt(zmq.FD))


def _readable(target: zmq.Socket[bytes]) -> bool:
    return bool(int(target.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _context() -> zmq.Context[Any]:
    return zmq.Context.instance()


def _attach(target: zmq.Socket[bytes], endpoint: str) -> str:
    try:
        if "*" not in endpoint:
            target.connect(endpoint)
            return endpoint
        target.bind(endpoint)
    except zmq.ZMQError as error:
        target.close()
        message = f"KV events cannot use {endpoint}: {error}. Choose another port with --kv-events."
        raise KvEventError(message) from error
    return target.getsockopt_string(zmq.LAST_ENDPOINT)
