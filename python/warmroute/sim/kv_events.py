"""KV events over ZMQ as vLLM publishes them: topic, 8-byte big-endian sequence number, payload (see `kv_event_forms`).

A second socket (ROUTER) replays what is still buffered: a client sends an empty frame and the sequence number it wants to
start from, and gets `["", sequence, payload]` for each, then sequence -1.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import zmq

from .errors import KvEventError

if TYPE_CHECKING:
    import asyncio

    from .cache_events import CacheEvent
    from .faults import Fault
    from .kv_event_forms import EventWriter

BUFFERED_BATCHES = 10_000
"""Batches kept for replay (vLLM's default)."""
HIGH_WATER_MARK = 100_000
"""Messages a slow subscriber may be behind before it loses some."""
REBIND_SECONDS = 0.01
"""Pause between attempts to take an endpoint back that the closed socket may still hold."""
REBIND_ATTEMPTS = 500
REPLAY_FRAMES = 3
_END = (-1).to_bytes(8, "big", signed=True)


class KvEventPublisher:
    """Publishes one replica's cache changes. Sending never blocks."""

    def __init__(self, endpoint: str, topic: str, writer: EventWriter, buffered: int = BUFFERED_BATCHES) -> None:
        """Bind when the endpoint contains `*`, otherwise connect: vLLM's rule. `buffered`: batches kept for replay.

        Raises:
            KvEventError: the endpoint is taken or malformed.
        """
        self.topic = topic
        self.fault: Fault | None = None
        """What happens to messages on their way out; of the kinds in `faults.EVENT_KINDS`."""
        self.replay_endpoint: str | None = None
        """Where messages are replayed, as bound."""
        self.sequence = 0
        """Number of the next message."""
        self._writer = writer
        self._since_fault = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=buffered)
        self._replay: zmq.Socket[bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rebinding: asyncio.TimerHandle | None = None
        self._binds = "*" in endpoint
        self._socket: zmq.Socket[bytes] | None
        self._socket, self.endpoint = _publisher(endpoint, bind=self._binds)

    def publish(self, events: list[CacheEvent]) -> None:
        """Send one batch; nothing when there are no events."""
        if not events:
            return
        payload = self._writer.batch(events, time.time())
        copies, kept = self._suffered()
        if kept:
            self._buffer.append((self.sequence, payload))
        if self._socket is not None:
            for _ in range(copies):
                self._socket.send_multipart((self.topic.encode(), self.sequence.to_bytes(8, "big"), payload), zmq.NOBLOCK)
        self.sequence += 1

    def set_fault(self, fault: Fault | None) -> None:
        """Treat messages so from now on; None: send them all."""
        self.fault = fault
        self._since_fault = 0
        # A silent publisher left requests for replay unread.
        self._answer_replays()

    def restart(self, loop: asyncio.AbstractEventLoop) -> None:
        """As a process that ends and comes back: connections cut, buffer empty, numbers from 0, the same endpoint.

        Until the endpoint is free again, what is published is only kept for replay.
        """
        self._buffer.clear()
        self.sequence = 0
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._rebinding is None:
            self._rebind(loop, REBIND_ATTEMPTS)

    def _rebind(self, loop: asyncio.AbstractEventLoop, attempts: int) -> None:
        self._rebinding = None
        try:
            self._socket, _ = _publisher(self.endpoint, bind=self._binds)
        except KvEventError:
            # ZMQ closes in the background: the port is free a moment later.
            if not attempts:
                raise
            self._rebinding = loop.call_later(REBIND_SECONDS, self._rebind, loop, attempts - 1)

    def _suffered(self) -> tuple[int, bool]:
        """Copies of the next message to send, and whether it is kept for replay."""
        if self.fault is None:
            return 1, True
        self._since_fault += 1
        struck = self._since_fault % self.fault.every == 0
        match self.fault.kind:
            case "events-drop":
                return 0 if struck else 1, True
            case "events-lose":
                return (0, False) if struck else (1, True)
            case "events-duplicate":
                return 2 if struck else 1, True
            case _:
                return 0, True

    def serve_replay(self, endpoint: str, loop: asyncio.AbstractEventLoop) -> str:
        """Answer replay requests at this endpoint; the endpoint as bound.

        Raises:
            KvEventError: the endpoint is taken or malformed.
        """
        self._replay = _context().socket(zmq.ROUTER)
        self._replay.linger = 0
        # A ROUTER drops what is beyond its mark without a word; the whole buffer has to pass.
        self._replay.set_hwm(HIGH_WATER_MARK)
        bound = self.replay_endpoint = _attach(self._replay, endpoint, bind=True)
        self._loop = loop
        loop.add_reader(_descriptor(self._replay), self._answer_replays)
        self._answer_replays()
        return bound

    def close(self) -> None:
        """Close the sockets; what is unsent is lost."""
        if self._replay is not None and self._loop is not None:
            self._loop.remove_reader(_descriptor(self._replay))
            self._replay.close()
        if self._rebinding is not None:
            self._rebinding.cancel()
        if self._socket is not None:
            self._socket.close()

    @property
    def _silent(self) -> bool:
        return self.fault is not None and self.fault.kind == "events-silent"

    def _answer_replays(self) -> None:
        # The descriptor signals edges: everything has to be read each time.
        while not self._silent and self._replay is not None and _readable(self._replay):
            frames = self._replay.recv_multipart(zmq.NOBLOCK)
            # vLLM too answers nothing but [identity, empty frame, number].
            if len(frames) != REPLAY_FRAMES or len(frames[-1]) != len(_END):
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


def _publisher(endpoint: str, *, bind: bool) -> tuple[zmq.Socket[bytes], str]:
    """A socket that publishes, and the endpoint as bound."""
    target: zmq.Socket[bytes] = _context().socket(zmq.PUB)
    target.set_hwm(HIGH_WATER_MARK)
    target.linger = 0
    return target, _attach(target, endpoint, bind=bind)


def _descriptor(target: zmq.Socket[bytes]) -> int:
    return int(target.getsockopt(zmq.FD))


def _readable(target: zmq.Socket[bytes]) -> bool:
    return bool(int(target.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def _context() -> zmq.Context[Any]:
    return zmq.Context.instance()


def _attach(target: zmq.Socket[bytes], endpoint: str, *, bind: bool) -> str:
    try:
        if not bind:
            target.connect(endpoint)
            return endpoint
        target.bind(endpoint)
    except zmq.ZMQError as error:
        target.close()
        message = f"KV events cannot use {endpoint}: {error}. Choose another port with --kv-events or --kv-events-replay."
        raise KvEventError(message) from error
    return target.getsockopt_string(zmq.LAST_ENDPOINT)
