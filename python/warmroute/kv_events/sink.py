"""What the sockets need of the engine: who is in the pool, and where messages go. `_core.KvEvents` is the one; tests bring their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PoolEndpoint:
    """One endpoint of the pool. `incarnation` differs for each server that ever had the slot, also for one that left and came back."""

    slot: int
    incarnation: int
    namespace: str
    name: str
    address: str
    port: int
    labels: Mapping[str, str]


# Slot, incarnation, namespace, name, address, port, labels.
PoolRow = tuple[int, int, str, str, str, int, dict[str, str]]


class EventSink(Protocol):
    """The part of `_core.KvEvents` that is used. Where a number is answered, missed messages are wanted from that sequence number on."""

    def pool_generation(self) -> int:
        """Grows with each change of the pool."""

    def pool(self) -> list[PoolRow]:
        """The endpoints to subscribe to."""

    def open(self, slot: int, incarnation: int, pod: str, rank: int, engine: str) -> int | None:
        """A publisher of that endpoint; None: the endpoint has left meanwhile."""

    def close(self, publisher: int) -> None:
        """The publisher is gone, and what it announced."""

    def connected(self, publisher: int, *, connected: bool) -> None:
        """The connection came or went; the entries stay."""

    def join(self, publisher: int) -> int | None:
        """The publisher can be asked for a replay, now that it is connected."""

    def receive(self, publisher: int, topic: bytes, sequence: bytes, payload: bytes) -> int | None:
        """A message."""

    def replayed(self, publisher: int, sequence: bytes, payload: bytes) -> None:
        """A message that was asked for."""

    def replay_ended(self, publisher: int, *, complete: bool) -> int | None:
        """What was asked for has come, or (not complete) will not."""

    def reconnected(self, publisher: int) -> None:
        """Counts a connection after the first."""

    def socket_error(self, publisher: int, operation: str) -> None:
        """Counts an error of a socket."""
