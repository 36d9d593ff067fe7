"""Every form of KV events says the same, each as its engine writes it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]
import pytest

from warmroute.sim.cache_events import CPU, BlocksRemoved, BlocksStored, CacheCleared
from warmroute.sim.config import KV_EVENT_FORMS
from warmroute.sim.kv_event_forms import FORMS, EventWriter
from warmroute.sim.tokenizer import pack

if TYPE_CHECKING:
    from pathlib import Path

HIGH = 2**63 + 5
STORED = BlocksStored([HIGH, 7], 3, pack([1, 2, 3, 4]), "a1", [("a1", ("face", 1), "salty"), ("a1",)], "salty")
COPIED = BlocksStored([HIGH], 3, pack([1, 2]), "a1", [("a1",)], "salty", CPU)
REMOVED = BlocksRemoved([HIGH, 7])


def written(form: str, *events: Any) -> Any:
    payload = EventWriter(form, 2, {"a1": 4}.get, rank=1).batch(list(events), 1.5)
    time, found, rank = msgpack.unpackb(payload)
    assert (time, rank) == (1.5, 1)
    return found


def whole(name: int) -> bytes:
    return name.to_bytes(8, "little") * 3 + name.to_bytes(8, "big")


def test_the_forms_that_can_be_asked_for_are_those_that_exist() -> None:
    assert KV_EVENT_FORMS == FORMS


def test_maps_are_those_recorded(recordings: Path) -> None:
    line = json.loads((recordings / "kv-events.jsonl").read_text().splitlines()[5])
    (recorded,) = msgpack.unpackb(base64.b64decode(line[2]))[1]
    event = BlocksStored([recorded["block_hashes"][0]], recorded["parent_block_hash"], pack(recorded["token_ids"]), "a1", [("a1",)])
    payload = EventWriter("map", 32, {"a1": 1}.get).batch([event], 0.0)
    (ours,) = msgpack.unpackb(payload)[1]
    assert ours == recorded
    assert list(ours) == list(recorded)


@pytest.mark.parametrize(("form", "name"), [("map", int), ("bytes", whole)])
def test_maps_name_blocks_by_integers_or_by_bytes_that_end_with_them(form: str, name: Any) -> None:
    stored, copied, removed, cleared = written(form, STORED, COPIED, REMOVED, CacheCleared())
    assert stored["block_hashes"] == [name(HIGH), name(7)]
    assert stored["parent_block_hash"] == name(3)
    assert stored["extra_keys"] == [["a1", ["face", 1], "salty"], ["a1"]]
    assert (stored["lora_id"], stored["lora_name"], stored["medium"], stored["token_ids"]) == (4, "a1", "GPU", [1, 2, 3, 4])
    assert copied == {
        "type": "BlockStored",
        "block_hashes": [name(HIGH)],
        "parent_block_hash": None,
        "token_ids": [],
        "block_size": 0,
        "lora_id": None,
        "medium": "CPU",
        "lora_name": None,
        "group_idx": 0,
    }
    assert removed == {"type": "BlockRemoved", "block_hashes": [name(HIGH), name(7)], "medium": "GPU", "group_idx": 0}
    assert cleared == {"type": "AllBlocksCleared"}


def test_arrays_have_the_fields_in_order_and_leave_out_what_is_absent_at_the_end() -> None:
    assert written("array", STORED, COPIED, REMOVED, CacheCleared()) == [
        ["BlockStored", [HIGH, 7], 3, [1, 2, 3, 4], 2, 4, "GPU", "a1", [["a1", "face", "salty"], ["a1"]], 0, "full_attention"],
        ["BlockStored", [HIGH], None, [], 0, None, "CPU", None],
        ["BlockRemoved", [HIGH, 7], "GPU", 0],
        ["AllBlocksCleared"],
    ]


def test_sglang_tells_block_by_block_with_signed_hashes_and_tokens_for_the_cpu_too() -> None:
    nothing = [None] * 5
    salt = [["dynamo-cache-salt:salty"]]
    assert written("sglang", STORED, COPIED, REMOVED, CacheCleared()) == [
        ["BlockStored", [HIGH - 2**64], 3, [1, 2], 2, None, "GPU", "a1", salt, *nothing],
        ["BlockStored", [7], HIGH - 2**64, [3, 4], 2, None, "GPU", "a1", salt, *nothing],
        ["BlockStored", [HIGH - 2**64], 3, [1, 2], 2, None, "CPU_PINNED", "a1", salt, *nothing],
        ["BlockRemoved", [HIGH - 2**64, 7], "GPU", *nothing],
        ["AllBlocksCleared", None],
    ]
