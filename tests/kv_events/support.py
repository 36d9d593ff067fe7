"""A publisher as vLLM's, and an engine that writes down what it is told."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from warmroute.kv_events.sink import PoolRow

SOON = 15.0
POD = "127.0.0.1:8000"
END = (-1).to_bytes(8, "big", signed=True)


def eventually(condition: Callable[[], Any], what: str, timeout: float = SOON) -> Any:
    """Poll until the condition gives something true; fail after the timeout."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            message = f"not within {timeout} s: {what}; last: {value!r}"
            raise AssertionError(message)
        time.sleep(0.005)


def stored(*hashes: int, form: str = "map", medium: str = "GPU") -> bytes:
    """A batch with one BlockStored of 16-token blocks, as new (map) or older (array) engines pack it."""
    tokens = [hashed * 100 + number for hashed in hashes for number in range(16)]
    event: Any = {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": None,
        "token_ids": tokens,
        "block_size": 16,
        "lora_id": None,
        "medium": medium,
    }
    if form == "array":
        event = [*event.values()]
    packed: bytes = msgpack.packb([time.time(), [event], 0])
    return packed


class Publisher:
    """What vLLM runs: messages with numbers on one socket, those that were kept again on another."""

    def __init__(
        self, *, topic: str = f"kv@{POD}@tiny", address: str = "tcp://127.0.0.1:*", replay: str | None = "tcp://127.0.0.1:*", first: int = 0
    ) -> None:
        """Bind where `address` has a free port to take (`*`) or says `bind`; else connect."""
        self.topic = topic
        self.sequence = first
        self.kept: list[tuple[int, bytes]] = []
        #: Called for each message of a replay; false ones are not sent.
        self.passes: Callable[[int], bool] = lambda _: True
        self.sends_end = True
        self.end = END
        self.with_topic = False
        self.asked: list[int] = []
        self._context: zmq.Context[Any] = zmq.Context()
        # XPUB and not PUB, to see when somebody has subscribed: the same on the wire.
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._socket.set_hwm(100_000)
        self._socket.linger = 0
        if "*" in address:
            self._socket.bind(address)
            address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        else:
            self._socket.connect(address)
        self.address = address
        self.replay = ""
        self._router: zmq.Socket[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        if replay is not None:
            self._router = self._context.socket(zmq.ROUTER)
            self._router.linger = 0
            self._router.bind(replay)
            self.replay = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
            self._thread.start()

    @classmethod
    def at(cls, address: str, **arguments: Any) -> "Publisher":
        """One that binds where another one was."""
        made = cls(address="tcp://127.0.0.1:*", **arguments)
        made._socket.unbind(made.address)
        eventually(lambda: _binds(made._socket, address), f"{address} free again")
        made.address = address
        return made

    def subscribed(self) -> Self:
        """Wait for a subscription."""
        subscription = b""
        # Those who leave are told of as well.
        while not subscription.startswith(b"\1"):
            assert self._socket.poll(SOON * 1000), "nobody subscribed"
            subscription = self._socket.recv()
        return self

    def publish(self, payload: bytes, *, lost: bool = False) -> int:
        """Send a message under the next number, or keep it without sending; the number."""
        number = self.sequence
        self.sequence += 1
        self.kept.append((number, payload))
        if not lost:
            self.send(self.topic.encode(), number.to_bytes(8, "big"), payload)
        return number

    def send(self, *frames: bytes) -> None:
        """Send anything."""
        self._socket.send_multipart(frames)

    def close(self) -> None:
        """End it, as a crash would: what is unsent is lost."""
        self._closing.set()
        if self._router is not None:
            self._thread.join(SOON)
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        assert self._router is not None
        while not self._closing.is_set():
            if not self._router.poll(10):
                continue
            client, empty, start = self._router.recv_multipart()
            self.asked.append(int.from_bytes(start, "big"))
            topic = [self.topic.encode()] if self.with_topic else []
            for number, payload in list(self.kept):
                if number >= self.asked[-1] and self.passes(number):
                    self._router.send_multipart([client, empty, *topic, number.to_bytes(8, "big"), payload])
            if self.sends_end:
                self._router.send_multipart([client, empty, *topic, self.end, b""])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End it."""
        self.close()


def _binds(socket: zmq.Socket[bytes], address: str) -> bool:
    with suppress(zmq.ZMQError):
        socket.bind(address)
        return True
    return False


class RecordingSink:
    """The engine's side with the rules of sequence numbers, and a record of what came for whom."""

    def __init__(self, rows: Iterable[PoolRow] = ()) -> None:
        """A pool with these endpoints."""
        self._generation = 0
        self.rows: list[PoolRow] = list(rows)
        self.opened: list[tuple[int, int, str, int, str]] = []
        self.closed: list[int] = []
        #: Sequence numbers applied, in order, by publisher.
        self.applied: dict[int, list[int]] = defaultdict(list)
        self.payloads: dict[int, list[bytes]] = defaultdict(list)
        self.topics: dict[int, bytes] = {}
        self.held: dict[int, dict[int, bytes]] = defaultdict(dict)
        self.ended: dict[int, list[bool]] = defaultdict(list)
        self.drops: dict[int, int] = defaultdict(int)
        self.is_connected: dict[int, bool] = {}
        self.reconnections: dict[int, int] = defaultdict(int)
        self.errors: list[tuple[int, str]] = []
        self.crash: BaseException | None = None
        #: Whether a replay is wanted as soon as there is a connection.
        self.asks_at_once = False
        self._expected: dict[int, int] = {}
        self._replaying: set[int] = set()
        self.order: list[int] = []

    def set_pool(self, *rows: PoolRow) -> None:
        """Change the pool."""
        self.rows = list(rows)
        self._generation += 1

    def pool_generation(self) -> int:
        if self.crash is not None:
            error, self.crash = self.crash, None
            raise error
        return self._generation

    def pool(self) -> list[PoolRow]:
        return self.rows

    def open(self, slot: int, incarnation: int, pod: str, rank: int, engine: str) -> int | None:
        self.opened.append((slot, incarnation, pod, rank, engine))
        return len(self.opened) - 1

    def close(self, publisher: int) -> None:
        self.closed.append(publisher)

    def connected(self, publisher: int, *, connected: bool) -> None:
        self.is_connected[publisher] = connected

    def join(self, publisher: int) -> int | None:
        if self.asks_at_once:
            self._replaying.add(publisher)
            return self._expected.get(publisher, 0)
        return None

    def receive(self, publisher: int, topic: bytes, sequence: bytes, payload: bytes) -> int | None:
        assert publisher not in self.closed, "a message for a publisher that is closed"
        self.order.append(publisher)
        self.topics[publisher] = topic
        number = int.from_bytes(sequence, "big")
        expected = self._expected.get(publisher, 0)
        if publisher in self._replaying or number > expected:
            self.held[publisher][number] = payload
            if publisher in self._replaying:
                return None
            self._replaying.add(publisher)
            return expected
        if number == expected:
            self._apply(publisher, number, payload)
        return None

    def replayed(self, publisher: int, sequence: bytes, payload: bytes) -> None:
        self.held[publisher][int.from_bytes(sequence, "big")] = payload

    def replay_ended(self, publisher: int, *, complete: bool) -> int | None:
        self.ended[publisher].append(complete)
        self._replaying.discard(publisher)
        held = self.held.pop(publisher, {})
        for number in sorted(held):
            expected = self._expected.get(publisher, 0)
            if number > expected:
                self.drops[publisher] += 1
                self.applied[publisher].clear()
            if number >= expected:
                self._apply(publisher, number, held[number])
        return None

    def reconnected(self, publisher: int) -> None:
        self.reconnections[publisher] += 1

    def socket_error(self, publisher: int, operation: str) -> None:
        self.errors.append((publisher, operation))

    def _apply(self, publisher: int, number: int, payload: bytes) -> None:
        self.applied[publisher].append(number)
        self.payloads[publisher].append(payload)
        self._expected[publisher] = number + 1


def row(
    slot: int = 0, publisher: Publisher | None = None, *, incarnation: int = 1, port: int = 8000, name: str = "", labels: dict[str, str] | None = None
) -> PoolRow:
    """An endpoint of the pool, which publishes there."""
    given = dict(labels or {})
    if publisher is not None:
        given["warmroute.dev/kv-events"] = publisher.address
        if publisher.replay:
            given["warmroute.dev/kv-events-replay"] = publisher.replay
    return slot, incarnation, "default", name or f"pod-{slot}", "127.0.0.1", port + slot, given
