"""Asks publishers for messages that were missed.

A DEALER socket sends an empty frame and the sequence number to start from; the publisher's ROUTER answers `["", number, payload]` for each message
that it still has (some versions put the topic before the number), then number -1. Its answer may stop in the middle, where it was too fast for the
connection: then the rest is asked for.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import zmq

from warmroute.kv_events.link import Link
from warmroute.kv_events.reactor import TURN_BYTES, TURN_MESSAGES, Reactor, descriptor_of, new_socket
from warmroute.kv_events.settings import KvEventsError
from warmroute.logging import fields

logger = logging.getLogger(__name__)

#: The reference's limits, in seconds: for all attempts together, without a message, and after one that failed.
TOTAL_SECONDS, IDLE_SECONDS, COOLDOWN_SECONDS = 120.0, 2.0, 30.0
RETRY_SECONDS = 0.1
AT_ONCE = 8
ATTEMPTS_WITHOUT_PROGRESS = 3
#: So many replays may follow each other directly.
IN_ROW = 3
#: Answers kept by libzmq: as many as vLLM buffers.
_HIGH_WATER_MARK = 10_000
_END = b"\xff" * 8
_NUMBER_BYTES = 8
_CONNECT = "no connection"

Clock = Callable[[], float]


class Replays:
    """The replays of one thread: so many at once, the others wait."""

    def __init__(self, context: zmq.Context[Any], reactor: Reactor, clock: Clock = time.monotonic) -> None:
        """Nothing is asked for yet."""
        self.context = context
        self.reactor = reactor
        self.clock = clock
        self._active: dict[Link, _Replay] = {}
        self._waiting: dict[Link, _Replay] = {}

    def want(self, link: Link, start: int, *, joining: bool = False) -> None:
        """Ask this publisher for what it sent from `start` on. Where it cannot be asked, the engine is told at once that nothing will come.

        `joining`: nothing is known to be missing; an answer without messages is a good one.
        """
        if link in self._active or link in self._waiting:
            return
        now = self.clock()
        if link.target.replay is None or now < link.replay_again_at:
            link.give_up_replay()
            return
        self._waiting[link] = _Replay(link, start, now, self, joining=joining)
        self._admit()

    def cancel(self, link: Link) -> None:
        """The publisher is gone."""
        self._waiting.pop(link, None)
        replay = self._active.pop(link, None)
        if replay is not None:
            replay.hang_up()
            self._admit()

    def tick(self) -> None:
        """Let time act."""
        now = self.clock()
        for replay in [*self._active.values(), *self._waiting.values()]:
            replay.tick(now)

    def next_tick(self) -> float | None:
        """When `tick` has something to do; None: not before something else happens."""
        return min((replay.due() for replay in (*self._active.values(), *self._waiting.values())), default=None)

    def is_asking(self, link: Link) -> bool:
        """Whether messages of this publisher are being asked for."""
        return link in self._active or link in self._waiting

    def ended(self, replay: "_Replay", *, complete: bool, reason: str) -> None:
        """A replay is over: told to the engine, which applies what it held, or drops the publisher's entries."""
        link = replay.link
        self._active.pop(link, None)
        self._waiting.pop(link, None)
        link.replays += 1
        # One that was complete and brought nothing would be asked for again by the next message, and the next.
        fruitless = bool(replay.start and not replay.messages and not replay.joining)
        if not complete or fruitless or link.replays_in_row >= IN_ROW:
            link.replay_again_at = self.clock() + COOLDOWN_SECONDS
        details = fields(
            endpoint=link.target.pod,
            address=link.target.replay,
            start=replay.start,
            reason=reason,
            messages=replay.messages,
            attempts=replay.attempts,
        )
        if complete:
            logger.debug("KV events replayed", extra=details)
        else:
            link.sink.socket_error(link.publisher, "replay_connect" if reason == _CONNECT else "replay")
            logger.warning("KV events could not be replayed: what this endpoint announced before is dropped", extra=details)
        again = link.sink.replay_ended(link.publisher, complete=complete)
        link.replays_in_row = 0 if again is None else link.replays_in_row + 1
        if again is not None:
            # The publisher turned out to be another one, with other messages under the same numbers.
            self.want(link, again)
        self._admit()

    def close(self) -> None:
        """Hang up everywhere."""
        for replay in self._active.values():
            replay.hang_up()
        self._active.clear()
        self._waiting.clear()

    def _admit(self) -> None:
        while self._waiting and len(self._active) < AT_ONCE:
            link = next(iter(self._waiting))
            replay = self._waiting.pop(link)
            self._active[link] = replay
            replay.ask(self.clock())


class _Replay:
    """One publisher's missed messages, in as many attempts as it takes."""

    descriptor = -1

    def __init__(self, link: Link, start: int, now: float, replays: Replays, *, joining: bool) -> None:
        self.link = link
        self.joining = joining
        self.start = start
        self.messages = 0
        self.attempts = 0
        self._replays = replays
        self._next = start
        self._deadline = now + TOTAL_SECONDS
        # When the attempt is idle for too long, or (without a socket) when the next one begins.
        self._alarm = self._deadline
        self._socket: zmq.Socket[bytes] | None = None
        self._progress = 0
        self._fruitless = 0

    def ask(self, now: float) -> None:
        """Begin an attempt."""
        self.attempts += 1
        self._progress = 0
        self._alarm = now + IDLE_SECONDS
        try:
            asking = new_socket(self._replays.context, zmq.DEALER)
        except KvEventsError:
            self._give_up(_CONNECT)
            return
        try:
            asking.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
            asking.connect(self.link.target.replay or "")
            asking.send_multipart((b"", self._next.to_bytes(_NUMBER_BYTES, "big")), zmq.NOBLOCK)
        except zmq.ZMQError:
            asking.close()
            self._give_up(_CONNECT)
            return
        self._socket = asking
        self.descriptor = descriptor_of(asking)
        self._replays.reactor.add(self)

    def due(self) -> float:
        """When `tick` has something to do."""
        return min(self._alarm, self._deadline)

    def tick(self, now: float) -> None:
        """Let time act."""
        if now >= self._deadline:
            self._give_up("timeout")
        elif now >= self._alarm:
            if self._socket is None:
                self.ask(now)
            else:
                self._attempt_ended(now)

    def turn(self) -> bool:
        """Read some of the answer."""
        size = 0
        for _ in range(TURN_MESSAGES):
            if self._socket is None:
                return False
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self._take(frames)
            size += sum(map(len, frames))
            if size > TURN_BYTES:
                break
        return True

    def hang_up(self) -> None:
        """End the attempt."""
        if self._socket is not None:
            self._replays.reactor.remove(self)
            self._socket.close()
            self._socket = None

    def _take(self, frames: list[bytes]) -> None:
        number = frames[-2] if len(frames) > 1 else b""
        if len(number) != _NUMBER_BYTES:
            self._give_up("malformed")
            return
        if number == _END:
            self.hang_up()
            self._replays.ended(self, complete=True, reason="")
            return
        now = self._replays.clock()
        self._alarm = now + IDLE_SECONDS
        sequence = int.from_bytes(number, "big")
        if sequence < self._next:
            return
        # The publisher keeps the last messages only, so that the first may be a later one. Further ones in the middle were lost on their way.
        if sequence > self._next and self.messages:
            self._attempt_ended(now)
            return
        self._next = sequence + 1
        self.messages += 1
        self._progress += 1
        self.link.replayed_messages += 1
        self.link.sink.replayed(self.link.publisher, number, frames[-1])

    def _attempt_ended(self, now: float) -> None:
        self.hang_up()
        self._fruitless = 0 if self._progress else self._fruitless + 1
        if self._fruitless >= ATTEMPTS_WITHOUT_PROGRESS:
            self._give_up("no progress")
        else:
            self._alarm = now + RETRY_SECONDS

    def _give_up(self, reason: str) -> None:
        self.hang_up()
        self._replays.ended(self, complete=False, reason=reason)
