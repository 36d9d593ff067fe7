"""The KV cache of one replica: blocks with chained hashes, shared while in use, evicted least recently used first.

Behaves as the V1 block pool of vLLM: a full block is named by a hash of its tokens and of everything before it; a
freed block keeps its content until its place is needed; blocks are freed tail first, so that a prefix outlives what
follows it; block 0 is reserved, which is why usage counts one block less. One simplification: when the same content
is computed twice at once, only the first copy is named (vLLM names both).
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

from .cache_events import GPU, BlocksRemoved, BlocksStored, CacheCleared
from .cpu_tier import WHEN_STORED

if TYPE_CHECKING:
    from .cache_events import CacheEvent
    from .cpu_tier import CpuTier


class CacheSizeError(ValueError):
    """A cache without room for a single sequence."""


def block_hash(parent: int | None, tokens: bytes, extra: bytes = b"") -> int:
    """64-bit name of a full block: its tokens, all before it (`parent`), and what else is needed (adapter, media, salt)."""
    head = b"root" if parent is None else parent.to_bytes(8, "little")
    return int.from_bytes(blake2b(head + tokens + extra, digest_size=8).digest(), "little")


class BlockCache:
    """Blocks of one replica, by id; a block is free or held by one or more sequences.

    `record_events` off: nothing is remembered for `take_events`.
    """

    def __init__(self, num_blocks: int, block_size: int, *, record_events: bool = False, cpu: CpuTier | None = None) -> None:
        """`num_blocks` as the engine reports it (one of them is never given out), `block_size` tokens each; `cpu`: where copies go."""
        if num_blocks < 2 or block_size < 1:  # noqa: PLR2004 - the reserved block and one to use
            message = f"a cache needs at least 2 blocks of at least 1 token, not {num_blocks} of {block_size}"
            raise CacheSizeError(message)
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._by_hash: dict[int, int] = {}
        self._hash_of: dict[int, int] = {}
        self._holders: dict[int, int] = {}
        # Ids never given out are handed out first and need no entry: a fresh cache costs no memory.
        self._next_fresh = 1
        self._freed: OrderedDict[int, None] = OrderedDict()
        self.cpu = cpu
        self._copies_stored = cpu is not None and cpu.when == WHEN_STORED
        self._record = record_events
        self._events: list[CacheEvent] = []

    @property
    def free_blocks(self) -> int:
        """Blocks that can be given out now (named ones included)."""
        return self.num_blocks - self._next_fresh + len(self._freed)

    @property
    def used_blocks(self) -> int:
        """Blocks held by sequences."""
        return len(self._holders)

    @property
    def named_blocks(self) -> int:
        """Blocks whose content can be found."""
        return len(self._by_hash)

    @property
    def usage(self) -> float:
        """Share of the usable blocks that sequences hold, 0 to 1."""
        return self.used_blocks / (self.num_blocks - 1)

    def match(self, hashes: list[int]) -> list[int]:
        """Blocks of the longest known prefix of `hashes`; not yet held."""
        found = []
        for name in hashes:
            block = self._by_hash.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def free_among(self, blocks: list[int]) -> int:
        """How many of these blocks are free now: holding them leaves that many fewer."""
        return sum(1 for block in blocks if block not in self._holders)

    def hold(self, blocks: list[int]) -> None:
        """One more sequence uses these (matched) blocks."""
        for block in blocks:
            holders = self._holders.get(block, 0)
            if not holders:
                del self._freed[block]
            self._holders[block] = holders + 1

    def allocate(self, number: int) -> list[int] | None:
        """Give out `number` blocks, evicting the least recently used content; None when there are not that many."""
        if number > self.free_blocks:
            return None
        given: list[int] = []
        evicted: list[int] = []
        for _ in range(number):
            if self._next_fresh < self.num_blocks:
                block = self._next_fresh
                self._next_fresh += 1
            else:
                block, _none = self._freed.popitem(last=False)
                name = self._hash_of.pop(block, None)
                if name is not None:
                    del self._by_hash[name]
                    evicted.append(name)
            self._holders[block] = 1
            given.append(block)
        if evicted:
            if self._record:
                self._events.append(BlocksRemoved(evicted))
            if self.cpu is not None and not self._copies_stored:
                # Evicted tail first; copies are given in order of the sequence.
                self.cpu.copy(BlocksStored(evicted[::-1], None, b""))
        return given

    def release(self, blocks: list[int]) -> None:
        """A sequence's blocks, in its order, are no longer used by it; the tail becomes free (and evictable) first."""
        for block in reversed(blocks):
            holders = self._holders[block] - 1
            if holders:
                self._holders[block] = holders
            else:
                del self._holders[block]
                self._freed[block] = None

    def store(self, blocks: list[int], stored: BlocksStored) -> None:
        """Name full blocks held by a sequence: `stored` is what is said of them, one hash per block."""
        start = 0
        for index, (block, name) in enumerate(zip(blocks, stored.hashes, strict=True)):
            if name in self._by_hash:
                self._announce(stored, start, index)
                start = index + 1
                continue
            self._by_hash[name] = block
            self._hash_of[block] = name
        self._announce(stored, start, len(blocks))

    def clear(self) -> None:
        """Forget all content. Blocks in use stay in use, without a name. Copies in the CPU stay."""
        self._by_hash.clear()
        self._hash_of.clear()
        if self._record:
            self._events.append(CacheCleared())

    def forget(self) -> None:
        """Forget all content, copies too, in silence, as a process that ends does."""
        self._by_hash.clear()
        self._hash_of.clear()
        self._events.clear()
        if self.cpu is not None:
            self.cpu.forget()

    def take_events(self) -> list[CacheEvent]:
        """What changed since the last call: of the GPU, then of the CPU, each in order, as vLLM's scheduler collects them."""
        events, self._events = self._events, []
        if self.cpu is not None:
            events += self.cpu.take_events()
        return events

    def _announce(self, stored: BlocksStored, start: int, end: int) -> None:
        if start == end or not (self._record or self._copies_stored):
            return
        run = stored.part(start, end, GPU)
        if self._record:
            self._events.append(run)
        if self.cpu is not None and self._copies_stored:
            self.cpu.copy(run)
