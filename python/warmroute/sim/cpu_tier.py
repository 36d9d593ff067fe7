"""Copies of KV blocks in the memory of the host, by name, least recently used first out. No input or output.

What vLLM's offloading connector keeps: its events name blocks by hash alone, without tokens and without a parent.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from .cache_events import CPU, BlocksRemoved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cache_events import BlocksStored, CacheEvent

WHEN_STORED = "stored"
"""A block is copied as soon as it is full: what vLLM's offloading connector does."""
WHEN_EVICTED = "evicted"
"""A block is copied when the GPU gives it up."""
OFFLOAD = (WHEN_STORED, WHEN_EVICTED)


class CpuTier:
    """Up to `capacity` copies. `record` off: nothing is remembered for `take_events`."""

    def __init__(self, capacity: int, when: str = WHEN_STORED, *, record: bool = False) -> None:
        """`when`: one of `OFFLOAD`, for whoever feeds it."""
        self.capacity = capacity
        self.when = when
        self._held: OrderedDict[int, None] = OrderedDict()
        self._record = record
        self._events: list[CacheEvent] = []

    def __len__(self) -> int:
        """Copies held."""
        return len(self._held)

    def leading(self, hashes: Iterable[int]) -> int:
        """How many of these, from the first on, are held."""
        count = 0
        for name in hashes:
            if name not in self._held:
                break
            count += 1
        return count

    def touch(self, hashes: list[int]) -> None:
        """These (in order of the sequence) were used; the first is the last to go, so that a prefix outlives what follows it."""
        for name in reversed(hashes):
            if name in self._held:
                self._held.move_to_end(name)

    def copy(self, stored: BlocksStored) -> None:
        """Copy blocks, given in order of the sequence; what does not fit pushes out the least recently used."""
        runs = self._missing(stored)
        removed: list[int] = []
        for start, end in reversed(runs):
            for name in reversed(stored.hashes[start:end]):
                if len(self._held) >= self.capacity:
                    removed.append(self._held.popitem(last=False)[0])
                self._held[name] = None
        self.touch(stored.hashes)
        if not self._record:
            return
        if removed:
            self._events.append(BlocksRemoved(removed, CPU))
        self._events += [stored.part(start, end, CPU) for start, end in runs]

    def clear(self) -> None:
        """Drop every copy, and say so block by block."""
        if self._held and self._record:
            self._events.append(BlocksRemoved(list(self._held), CPU))
        self._held.clear()

    def forget(self) -> None:
        """Drop every copy in silence, as a process that ends does."""
        self._held.clear()
        self._events.clear()

    def take_events(self) -> list[CacheEvent]:
        """What changed since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _missing(self, stored: BlocksStored) -> list[tuple[int, int]]:
        """Runs of these blocks that are not held, no more of them than there are places."""
        runs: list[tuple[int, int]] = []
        room = self.capacity
        for index, name in enumerate(stored.hashes):
            if not room:
                break
            if name in self._held:
                continue
            room -= 1
            if runs and runs[-1][1] == index:
                runs[-1] = (runs[-1][0], index + 1)
            else:
                runs.append((index, index + 1))
        return runs
