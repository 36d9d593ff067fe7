"""All sockets of one subscriber thread, kept in step with the pool."""

import logging
import resource
import threading
import time
from contextlib import suppress
from typing import Any

import zmq

from warmroute.kv_events.link import Link
from warmroute.kv_events.live import SharedSubscription, Subscription
from warmroute.kv_events.reactor import Reactor
from warmroute.kv_events.replay import Replays
from warmroute.kv_events.settings import KvEventsError, KvEventsSettings
from warmroute.kv_events.sink import EventSink, PoolEndpoint
from warmroute.kv_events.targets import Key, Target, TargetBook
from warmroute.logging import fields

logger = logging.getLogger(__name__)

#: How often the pool is looked at, in seconds.
FOLLOW_SECONDS = 0.2
# What could not be opened (no descriptors left) is tried again after so many seconds, also when the pool stays as it is.
_OPEN_AGAIN_SECONDS = 5.0
# libzmq's default of 1,023 is less than two (messages and monitor) for each of six hundred endpoints.
_MOST_SOCKETS = 65_535
# A publisher that nothing was heard of for so long after its endpoint came is told of; looked at as often.
_SILENT_SECONDS = 10.0
_NAMED_SILENT = 5
# How old `states` may be, in seconds.
_STATES_SECONDS = 0.1


class Session:
    """Sockets, publishers and replays from their beginning to `close`. One thread at a time may use it; `wake` and `states` are for all."""

    def __init__(self, settings: KvEventsSettings, sink: EventSink) -> None:
        """Binds where the settings say so, and looks at the pool.

        Raises:
            KvEventsError: the address is taken.
        """
        self._settings = settings
        self._sink = sink
        self._book = TargetBook(settings)
        self._links: dict[Key, Link] = {}
        self._subscriptions: dict[Key, Subscription] = {}
        self._generation: int | None = None
        self._follow_at = 0.0
        self._open_again_at: float | None = None
        self._states_at = 0.0
        self._silence_at = 0.0
        #: One row a publisher.
        self.states: tuple[dict[str, Any], ...] = ()
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, _MOST_SOCKETS)
        _allow_descriptors()
        self._reactor = Reactor()
        self._replays = Replays(self._context, self._reactor)
        self._shared: SharedSubscription | None = None
        try:
            if settings.bind:
                self._shared = SharedSubscription(self._context, settings, self._reactor, self._replays.want)
            self._follow()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Where engines connect to; empty where they do not."""
        return "" if self._shared is None else self._shared.address

    @property
    def strangers(self) -> int:
        """Messages at the shared socket that no endpoint of the pool has sent."""
        return 0 if self._shared is None else self._shared.strangers

    def run(self, stopping: threading.Event) -> None:
        """Receive until told to stop; `wake` makes it look at once."""
        while not stopping.is_set():
            now = time.monotonic()
            if now >= self._follow_at:
                self._follow()
                self._follow_at = now + FOLLOW_SECONDS
            self._replays.tick()
            if now >= self._states_at:
                self.states = tuple(link.state() | {"replaying": self._replays.is_asking(link)} for link in self._links.values())
                self._states_at = now + _STATES_SECONDS
            if now >= self._silence_at:
                self._tell_silent(now)
                self._silence_at = now + _SILENT_SECONDS
            due = self._replays.next_tick()
            wake_at = self._follow_at if due is None else min(self._follow_at, due)
            self._reactor.round(max(0.0, wake_at - time.monotonic()))

    def wake(self) -> None:
        """End the waiting of `run`."""
        self._reactor.wake()

    def close(self) -> None:
        """Close every socket and every publisher."""
        self._replays.close()
        for key in list(self._links):
            self._leave(key)
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        self._reactor.close()
        self._context.destroy(linger=0)
        self.states = ()

    def _follow(self) -> None:
        """Open and close what the pool's changes ask for."""
        generation = self._sink.pool_generation()
        retry = self._open_again_at is not None and time.monotonic() >= self._open_again_at
        if generation == self._generation and not retry:
            return
        self._open_again_at = None
        targets = self._book.update(PoolEndpoint(*row) for row in self._sink.pool())
        # Those that left first: one that takes a slot over must find it empty. And one that moved is one that left.
        for key in [key for key, link in self._links.items() if targets.get(key) != link.target]:
            self._leave(key)
        errors = [error for key, target in targets.items() if key not in self._links and (error := self._join(key, target))]
        if errors:
            self._open_again_at = time.monotonic() + _OPEN_AGAIN_SECONDS
            logger.error("KV events of some endpoints cannot be received; trying again", extra=fields(endpoints=len(errors), first_error=errors[0]))
        if self._shared is not None:
            self._shared.serve(self._links.values())
        self._generation = generation

    def _join(self, key: Key, target: Target) -> str:
        """Open what an endpoint needs; what went wrong, or nothing."""
        slot, incarnation, _ = key
        publisher = self._sink.open(slot, incarnation, target.pod, target.rank, self._settings.engine)
        if publisher is None:
            # Gone again: the next look shows who is there now.
            return ""
        link = Link(target, publisher, self._sink)
        self._links[key] = link
        if target.address is None:
            return ""
        try:
            self._subscriptions[key] = Subscription(self._context, link, self._settings, self._reactor, self._replays.want)
        except KvEventsError as error:
            self._sink.socket_error(publisher, "connect")
            self._leave(key)
            return f"{target.pod}: {error}"
        return ""

    def _tell_silent(self, now: float) -> None:
        """One line for all publishers that never connected: libzmq goes on trying without a word, and a wrong port looks like an idle engine."""
        silent = [link for link in self._links.values() if link.is_silent(now - _SILENT_SECONDS)]
        if silent:
            addresses = [link.target.address for link in silent[:_NAMED_SILENT]]
            details = fields(publishers=len(silent), addresses=addresses)
            logger.warning("KV events: nobody answers; trying again, and going by what was sent meanwhile", extra=details)

    def _leave(self, key: Key) -> None:
        link = self._links.pop(key)
        # Sockets first: nothing of theirs may reach a publisher that is closed.
        self._replays.cancel(link)
        subscription = self._subscriptions.pop(key, None)
        if subscription is not None:
            subscription.close()
        self._sink.close(link.publisher)


def _allow_descriptors() -> None:
    """As many open files as this user may have: each endpoint takes four, and the gateway's streams need theirs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems tell a limit that they do not grant.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
