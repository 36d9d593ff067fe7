"""The block cache: naming, sharing, eviction order, events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.sim.cache import BlockCache, CacheSizeError, block_hash
from warmroute.sim.cache_events import CPU, BlocksRemoved, BlocksStored, CacheCleared, CacheEvent
from warmroute.sim.cpu_tier import WHEN_EVICTED, WHEN_STORED, CpuTier


def fill(cache: BlockCache, names: list[int], parent: int | None = None) -> list[int]:
    blocks = cache.allocate(len(names))
    assert blocks is not None
    cache.store(blocks, BlocksStored(names, parent, bytes(len(names) * cache.block_size * 4)))
    return blocks


def test_a_name_depends_on_tokens_on_all_before_and_on_the_adapter() -> None:
    names = {
        block_hash(None, b"a" * 64),
        block_hash(None, b"b" * 64),
        block_hash(1, b"a" * 64),
        block_hash(None, b"a" * 64, b"lora"),
    }
    assert len(names) == 4
    assert block_hash(7, b"a" * 64) == block_hash(7, b"a" * 64)


def test_freed_blocks_are_found_until_their_place_is_needed_and_the_tail_goes_first() -> None:
    cache = BlockCache(5, 16)
    cache.release(fill(cache, [1, 2, 3]))
    assert len(cache.match([1, 2, 3])) == 3
    assert cache.allocate(2) is not None  # the never used block, then the tail
    assert len(cache.match([1, 2, 3])) == 2


def test_least_recently_used_content_is_evicted_first() -> None:
    cache = BlockCache(4, 16)
    cache.release(fill(cache, [1]))
    cache.release(fill(cache, [2]))
    cache.release(fill(cache, [3]))
    used = cache.match([1])
    cache.hold(used)
    cache.release(used)
    assert cache.allocate(1) is not None
    assert cache.match([1])
    assert not cache.match([2])
    assert cache.match([3])


def test_held_blocks_are_never_evicted_and_one_block_is_reserved() -> None:
    cache = BlockCache(4, 16)
    fill(cache, [1, 2])
    assert cache.allocate(2) is None
    assert cache.usage == pytest.approx(2 / 3)


def test_changes_are_told_in_order_and_runs_name_their_parent() -> None:
    cache = BlockCache(4, 16, record_events=True)
    blocks = fill(cache, [1, 2])
    cache.release(blocks)
    fill(cache, [9], parent=2)
    assert cache.allocate(1) is not None
    cache.clear()
    first, second, third, fourth = cache.take_events()
    assert first == BlocksStored([1, 2], None, bytes(2 * 64))
    assert second == BlocksStored([9], 2, bytes(64))
    assert third == BlocksRemoved([2])
    assert fourth == CacheCleared()
    assert cache.take_events() == []


def test_a_known_block_within_a_run_is_not_announced_again() -> None:
    cache = BlockCache(8, 16, record_events=True)
    fill(cache, [2])
    cache.take_events()
    fill(cache, [1, 2, 3])
    assert [event.hashes for event in cache.take_events() if isinstance(event, BlocksStored)] == [[1], [3]]
    assert cache.named_blocks == 3


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(CacheSizeError, match="at least 2 blocks"):
        BlockCache(1, 16)


def tell(cache: BlockCache) -> list[tuple[str, list[int], str]]:
    return [(type(event).__name__, event.hashes, event.medium) for event in cache.take_events() if not isinstance(event, CacheCleared)]


def test_a_copy_is_made_when_a_block_is_full_and_outlives_it() -> None:
    cache = BlockCache(4, 16, record_events=True, cpu=CpuTier(4, WHEN_STORED, record=True))
    cache.release(fill(cache, [1, 2, 3]))
    assert tell(cache) == [("BlocksStored", [1, 2, 3], "GPU"), ("BlocksStored", [1, 2, 3], CPU)]
    assert cache.allocate(2) is not None
    assert tell(cache) == [("BlocksRemoved", [3, 2], "GPU")]
    assert cache.cpu is not None
    assert cache.cpu.leading([1, 2, 3, 4]) == 3


def test_a_copy_is_made_when_a_block_is_evicted_if_so_told() -> None:
    cache = BlockCache(4, 16, record_events=True, cpu=CpuTier(1, WHEN_EVICTED, record=True))
    cache.release(fill(cache, [1, 2, 3]))
    assert tell(cache) == [("BlocksStored", [1, 2, 3], "GPU")]
    assert cache.allocate(2) is not None
    # One place: the block nearer to the beginning has it.
    assert tell(cache) == [("BlocksRemoved", [3, 2], "GPU"), ("BlocksStored", [2], CPU)]


def test_full_memory_drops_the_copies_used_least_recently_and_of_a_prefix_the_tail() -> None:
    tier = CpuTier(4, record=True)
    tier.copy(BlocksStored([1, 2], None, b""))
    tier.copy(BlocksStored([3, 4], None, b""))
    tier.touch([1, 2])
    tier.take_events()
    tier.copy(BlocksStored([5], None, b""))
    assert (tier.leading([1, 2]), tier.leading([3]), tier.leading([4])) == (2, 1, 0)
    assert [(type(event), event.hashes) for event in tier.take_events() if not isinstance(event, CacheCleared)] == [
        (BlocksRemoved, [4]),
        (BlocksStored, [5]),
    ]
    tier.clear()
    assert tier.take_events() == [BlocksRemoved([3, 2, 1, 5], CPU)]
    tier.copy(BlocksStored(list(range(10, 20)), None, b""))
    assert (len(tier), tier.leading(range(10, 20))) == (4, 4)


def test_a_process_that_ends_forgets_without_a_word() -> None:
    cache = BlockCache(8, 16, record_events=True, cpu=CpuTier(4, record=True))
    cache.release(fill(cache, [1, 2]))
    cache.forget()
    assert cache.take_events() == []
    assert cache.match([1]) == []
    assert cache.cpu is not None
    assert cache.cpu.leading([1]) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=60), st.sampled_from([None, WHEN_STORED, WHEN_EVICTED]))
def test_blocks_are_conserved_whatever_happens(operations: list[tuple[int, int]], offload: str | None) -> None:
    cpu = None if offload is None else CpuTier(7, offload, record=True)
    cache = BlockCache(17, 1, record_events=True, cpu=cpu)
    held: list[list[int]] = []
    announced: dict[str, set[int]] = {"GPU": set(), CPU: set()}
    for kind, amount in operations:
        if kind == 0 and held:
            cache.release(held.pop(amount % len(held)))
        elif kind == 1:
            found = cache.match(list(range(amount * 10, amount * 10 + 4)))
            cache.hold(found)
            held.append(found)
        elif (blocks := cache.allocate(amount)) is not None:
            names = list(range(amount * 10, amount * 10 + amount))
            cache.store(blocks, BlocksStored(names, None, bytes(4 * amount)))
            held.append(blocks)
        for event in cache.take_events():
            apply(event, announced)
        assert cache.free_blocks + cache.used_blocks == 16
        assert cache.named_blocks == len(announced["GPU"])
        assert (0 if cpu is None else len(cpu)) == len(announced[CPU]) <= 7
    for blocks in held:
        cache.release(blocks)
    assert cache.free_blocks == 16


def apply(event: CacheEvent, announced: dict[str, set[int]]) -> None:
    """What a subscriber does; nothing is told twice, and nothing goes that was not there."""
    assert not isinstance(event, CacheCleared)
    known = announced[event.medium]
    if isinstance(event, BlocksStored):
        assert not known & set(event.hashes)
        known |= set(event.hashes)
    else:
        assert set(event.hashes) <= known
        known -= set(event.hashes)
