"""Waits on the descriptors of ZMQ sockets, and gives each socket its turn.

A ZMQ descriptor tells of edges, not of levels: after one, and after each call on its socket, the socket has to be read until it is empty. So what
has more to read stays in the round here, and nobody gets a second turn before the others had theirs.
"""

import errno
import selectors
import socket
from contextlib import suppress
from typing import Any, Protocol

import zmq

from warmroute.kv_events.settings import KvEventsError

#: One connection attempt after the other, in milliseconds: the first pause, doubled by libzmq up to the longest.
RECONNECT_MS, LONGEST_RECONNECT_MS = 100, 5_000
#: Larger messages end the connection that brought them.
LARGEST_MESSAGE = 64 * 1024 * 1024
#: Messages kept for us by libzmq, per socket. Beyond them the publisher's own queue grows, and that one is the larger.
HIGH_WATER_MARK = 1_000
#: A turn ends after so many messages, or bytes.
TURN_MESSAGES, TURN_BYTES = 64, 4 * 1024 * 1024
# A peer that vanished without a word is noticed by these, in milliseconds.
_HEARTBEAT_MS, _HEARTBEAT_TIMEOUT_MS = 5_000, 15_000


class Source(Protocol):
    """Something with a ZMQ descriptor."""

    descriptor: int

    def turn(self) -> bool:
        """Read a bounded number of messages; whether there may be more."""


class Reactor:
    """The sources of one thread. `wake` may be called from others."""

    def __init__(self) -> None:
        """Nothing is waited on."""
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.settimeout(0)
        self._wake_writer.settimeout(0)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._ready: dict[int, Source] = {}

    def add(self, source: Source) -> None:
        """Wait on a source. It gets a turn soon: an edge may already be past."""
        self._selector.register(source.descriptor, selectors.EVENT_READ, source)
        self._ready[source.descriptor] = source

    def remove(self, source: Source) -> None:
        """Wait on it no more; before its socket is closed."""
        self._selector.unregister(source.descriptor)
        self._ready.pop(source.descriptor, None)

    def round(self, timeout: float) -> None:
        """One turn for each source that has something to read; waits up to `timeout` seconds for the first."""
        for key, _ in self._selector.select(0 if self._ready else timeout):
            if key.data is None:
                self._empty_wake()
            else:
                self._ready.setdefault(key.data.descriptor, key.data)
        for descriptor, source in list(self._ready.items()):
            # A turn may have removed another source.
            if self._ready.get(descriptor) is source and not source.turn() and self._ready.get(descriptor) is source:
                del self._ready[descriptor]

    def wake(self) -> None:
        """End the waiting."""
        # Full of wake-ups that nobody took yet, or closed: nobody waits any more.
        with suppress(OSError):
            self._wake_writer.send(b"\0")

    def close(self) -> None:
        """Wait on nothing any more."""
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()

    def _empty_wake(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass


def subscriber(context: zmq.Context[Any], topic_filter: str) -> zmq.Socket[bytes]:
    """A SUB socket with its bounds.

    Raises:
        KvEventsError: this process has no descriptors left.
    """
    made = new_socket(context, zmq.SUB)
    made.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    made.setsockopt(zmq.RECONNECT_IVL_MAX, LONGEST_RECONNECT_MS)
    made.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    made.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    made.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    made.setsockopt(zmq.SUBSCRIBE, topic_filter.encode())
    return made


def new_socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[bytes]:
    """A socket that neither lingers nor takes what is too large.

    Raises:
        KvEventsError: this process has no descriptors left.
    """
    try:
        made: zmq.Socket[bytes] = context.socket(kind)
    except zmq.ZMQError as error:
        message = f"cannot open a ZMQ socket: {describe(error)}"
        raise KvEventsError(message) from error
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
    made.setsockopt(zmq.IPV6, 1)
    return made


def describe(error: zmq.ZMQError) -> str:
    """What went wrong, and what to do where that is known."""
    return f"{error}; raise the limit of open files (ulimit -n)" if error.errno == errno.EMFILE else str(error)


def descriptor_of(target: zmq.Socket[bytes]) -> int:
    """What to wait on."""
    return int(target.getsockopt(zmq.FD))
