"""The block cache: naming, sharing, eviction order, events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmroute.sim.cache import (
    BlockCache,
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    CacheSizeError,
    block_hash,
)


def fill(cache: BlockCache, names: list[int], parent: int | None = None) -> list[int]:
    blocks = cache.allocate(len(names))
    assert blocks is not None
    cache.store(blocks, names, parent, bytes(len(names) * cache.block_bytes), None)
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
    assert first == BlocksStored([1, 2], None, bytes(2 * 64), None)
    assert second == BlocksStored([9], 2, bytes(64), None)
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


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=60))
def test_blocks_are_conserved_whatever_happens(operations: list[tuple[int, int]]) -> None:
    cache = BlockCache(17, 1, record_events=True)
    held: list[list[int]] = []
    announced: set[int] = set()
    for kind, amount in operations:
        if kind == 0 and held:
            cache.release(held.pop(amount % len(held)))
        elif kind == 1:
            found = cache.match(list(range(amount * 10, amount * 10 + 4)))
            cache.hold(found)
            held.append(found)
        elif (blocks := cache.allocate(amount)) is not None:
            names = list(range(amount * 10, amount * 10 + amount))
            cache.store(blocks, names, None, bytes(4 * amount), None)
            held.append(blocks)
        for event in cache.take_events():
            if isinstance(event, BlocksStored):
                assert not announced & set(event.hashes)
                announced |= set(event.hashes)
            elif isinstance(event, BlocksRemoved):
                assert set(event.hashes) <= announced
                announced -= set(event.hashes)
        assert cache.free_blocks + cache.used_blocks == 16
        assert cache.named_blocks == len(announced)
    for blocks in held:
        cache.release(blocks)
    assert cache.free_blocks == 16
