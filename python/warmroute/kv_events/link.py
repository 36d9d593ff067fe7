"""One publisher as the sockets know it: its number in the engine, whether it is connected, and what may be told of it in the log."""

import logging
import time
from typing import Any

from warmroute.kv_events.sink import EventSink
from warmroute.kv_events.targets import Target
from warmroute.logging import fields

logger = logging.getLogger(__name__)

# A publisher that comes and goes all the time does not fill the log.
_TELL_AGAIN_SECONDS = 30.0
_ASKED_IN_ROW = 3


class Link:
    """A publisher of the engine and its target."""

    def __init__(self, target: Target, publisher: int, sink: EventSink) -> None:
        """`publisher`: its number in `sink`."""
        self.target = target
        self.publisher = publisher
        self.sink = sink
        self.is_connected = False
        self.messages = 0
        self.replays = 0
        self.replayed_messages = 0
        #: Seconds (monotonic) until which nothing is asked for again, since it failed.
        self.replay_again_at = 0.0
        #: Replays in a row after which the engine wanted another one.
        self.replays_in_row = 0
        self._connections = 0
        self._told_at = -_TELL_AGAIN_SECONDS
        self._opened_at = time.monotonic()
        self._told_silent = False

    def connected(self) -> int | None:
        """The connection is there. Answers where a replay should start, if one is wanted."""
        if self.is_connected:
            return None
        self.is_connected = True
        if self._connections:
            self.sink.reconnected(self.publisher)
        self._connections += 1
        self._tell("KV events connected")
        self.sink.connected(self.publisher, connected=True)
        # What an idle engine holds is known at once, and after a lost connection whether anything was missed.
        return None if self.target.replay is None else self.sink.join(self.publisher)

    def disconnected(self) -> None:
        """The connection is gone; libzmq tries again by itself."""
        if self.is_connected:
            self.is_connected = False
            self.sink.connected(self.publisher, connected=False)
            self._tell("KV events disconnected; trying again")

    def is_silent(self, before: float) -> bool:
        """Whether it never connected although it was opened before then (monotonic); true once."""
        silent = self.target.address is not None and not self._connections and self._opened_at < before and not self._told_silent
        self._told_silent |= silent
        return silent

    def receive(self, frames: list[bytes]) -> int | None:
        """One message of three frames. Answers where a replay should start, if one is wanted."""
        self.messages += 1
        if len(frames) != 3:  # noqa: PLR2004 -- topic, sequence number, payload
            self.sink.socket_error(self.publisher, "recv")
            return None
        return self.sink.receive(self.publisher, *frames)

    def give_up_replay(self) -> None:
        """Nothing will come of what the engine asked for. It may ask once more, where the publisher turned out to be another one; not for ever."""
        for _ in range(_ASKED_IN_ROW):
            if self.sink.replay_ended(self.publisher, complete=False) is None:
                return

    def state(self) -> dict[str, Any]:
        """For the debug page."""
        return {
            "endpoint": self.target.pod,
            "rank": self.target.rank,
            "address": self.target.address,
            "replay_address": self.target.replay,
            "connected": self.is_connected,
            "messages": self.messages,
            "replays": self.replays,
            "replayed_messages": self.replayed_messages,
        }

    def _tell(self, message: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= _TELL_AGAIN_SECONDS:
            self._told_at = now
            logger.info(message, extra=fields(endpoint=self.target.pod, address=self.target.address, rank=self.target.rank))
