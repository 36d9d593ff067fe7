"""Live messages: a SUB socket for each publisher, or one that all publishers connect to."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from warmroute.kv_events.link import Link
from warmroute.kv_events.reactor import TURN_BYTES, TURN_MESSAGES, Reactor, describe, descriptor_of, subscriber
from warmroute.kv_events.settings import KvEventsError, KvEventsSettings
from warmroute.logging import fields

logger = logging.getLogger(__name__)


class Wanted(Protocol):
    """Told that a replay is wanted, from which sequence number on; `joining`: although nothing is known to be missing."""

    def __call__(self, link: Link, start: int, *, joining: bool = False) -> None:
        """Ask for it."""


_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _FAILED
# Names that match no endpoint, or several, are told once each; so many are remembered.
_TOLD_NAMES = 1_000


class _Messages:
    """Reads whole messages in turns of bounded length."""

    def __init__(self, events: zmq.Socket[bytes]) -> None:
        self.events = events
        self.descriptor = descriptor_of(events)

    def turn(self) -> bool:
        size = 0
        for _ in range(TURN_MESSAGES):
            try:
                frames = self.events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.take(frames)
            size += sum(map(len, frames))
            if size > TURN_BYTES:
                break
        return True

    def take(self, frames: list[bytes]) -> None:
        raise NotImplementedError


class Subscription(_Messages):
    """The SUB socket of one publisher."""

    def __init__(self, context: zmq.Context[Any], link: Link, settings: KvEventsSettings, reactor: Reactor, wanted: Wanted) -> None:
        """Connects, now or as soon as the publisher is there.

        Raises:
            KvEventsError: no socket can be opened.
        """
        events = subscriber(context, settings.topic_filter)
        super().__init__(events)
        self._link = link
        self._wanted = wanted
        self._reactor = reactor
        try:
            # Before the connection, whose start is one of its events.
            self._monitor = _Monitor(events, link, wanted)
            events.connect(link.target.address or "")
        except zmq.ZMQError as error:
            events.close()
            message = f"cannot connect to {link.target.address}: {describe(error)}"
            raise KvEventsError(message) from error
        reactor.add(self)
        reactor.add(self._monitor)

    def take(self, frames: list[bytes]) -> None:
        """One message."""
        start = self._link.receive(frames)
        if start is not None:
            self._wanted(self._link, start)

    def close(self) -> None:
        """Disconnect; what has come and was not read is lost."""
        self._reactor.remove(self)
        self._reactor.remove(self._monitor)
        self._monitor.close()
        self.events.close()


class _Monitor:
    """Tells when the connection of a SUB socket comes and goes."""

    def __init__(self, events: zmq.Socket[bytes], link: Link, wanted: Wanted) -> None:
        self._events = events
        self._link = link
        self._wanted = wanted
        self._socket = events.get_monitor_socket(_WATCHED)
        self._socket.linger = 0
        self.descriptor = descriptor_of(self._socket)

    def turn(self) -> bool:
        for _ in range(TURN_MESSAGES):
            try:
                event = int(parse_monitor_message(self._socket.recv_multipart(zmq.NOBLOCK))["event"])
            except zmq.Again:
                return False
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                start = self._link.connected()
                if start is not None:
                    self._wanted(self._link, start, joining=True)
            elif event == zmq.EVENT_DISCONNECTED:
                self._link.disconnected()
            elif event & _FAILED:
                self._link.sink.socket_error(self._link.publisher, "connect")
        return True

    def close(self) -> None:
        self._events.disable_monitor()
        self._socket.close()


class SharedSubscription(_Messages):
    """One bound SUB socket; who publishes is in the topic: `kv@<ip:port, ip or name>@<model>`."""

    def __init__(self, context: zmq.Context[Any], settings: KvEventsSettings, reactor: Reactor, wanted: Wanted) -> None:
        """Binds.

        Raises:
            KvEventsError: the address is taken, or no address of this machine.
        """
        events = subscriber(context, settings.topic_filter)
        try:
            events.bind(settings.bind)
        except zmq.ZMQError as error:
            events.close()
            message = f"kvEventsConfig.zmqEndpoint: cannot listen at {settings.bind}: {error}. Give another port there and to the engines, or stop the process that has it."
            raise KvEventsError(message) from error
        super().__init__(events)
        self.address = events.getsockopt_string(zmq.LAST_ENDPOINT)
        self._wanted = wanted
        self._reactor = reactor
        self._links: dict[bytes, Link | None] = {}
        self._told: set[bytes] = set()
        self.strangers = 0
        reactor.add(self)

    def serve(self, links: Iterable[Link]) -> None:
        """These are the publishers from now on. A name that several endpoints share means none of them."""
        known: dict[bytes, Link | None] = {}
        for link in links:
            for name in set(link.target.names):
                encoded = name.encode()
                known[encoded] = None if encoded in known else link
        self._links = known
        self._told.clear()

    def take(self, frames: list[bytes]) -> None:
        """One message of somebody."""
        name = frames[0].split(b"@", 2)[1] if frames[0].count(b"@") else frames[0]
        link = self._links.get(name)
        if link is None:
            self.strangers += 1
            self._tell(name)
            return
        # There is no telling when one of many connects: its first message does.
        start = link.connected()
        if start is not None:
            self._wanted(link, start, joining=True)
        start = link.receive(frames)
        if start is not None:
            self._wanted(link, start)

    def close(self) -> None:
        """Listen no more."""
        self._reactor.remove(self)
        with suppress(zmq.ZMQError):
            self.events.unbind(self.address)
        self.events.close()

    def _tell(self, name: bytes) -> None:
        if name in self._told or len(self._told) >= _TOLD_NAMES:
            return
        self._told.add(name)
        shown = name[:200].decode(errors="replace")
        if name in self._links:
            logger.warning("KV events of several endpoints under one name are ignored; put ip:port into the topic", extra=fields(name=shown))
        else:
            logger.warning("KV events of no endpoint of the pool are ignored; the topic must be kv@<ip:port>@<model>", extra=fields(name=shown))
