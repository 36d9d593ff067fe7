"""How KV events are written: msgpack `[time, events, rank]` in the forms of real engines. No input or output.

| form | whose | an event | hash of a block |
|---|---|---|---|
| `map` | vLLM 0.32 | a map with `type` | unsigned 64-bit integer |
| `bytes` | vLLM that sends whole hashes (`VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES=0`) | a map | 32 bytes, the last 8 are the integer |
| `array` | vLLM before events became maps | an array, tag first, absent values at its end left out | unsigned integer |
| `sglang` | SGLang | an array of fixed length, one block an event | signed 64-bit integer |

Copies in the CPU: vLLM's offloading connector names them by hash alone (medium `CPU`, no tokens, no parent, block size
0); SGLang tells them as it tells the GPU's, with medium `CPU_PINNED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped]

from . import tokenizer
from .cache_events import CPU, BlocksRemoved, BlocksStored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .cache_events import CacheEvent, ExtraKeys

FORMS = ("map", "array", "sglang", "bytes")
SGLANG_MEDIA = {CPU: "CPU_PINNED"}
SGLANG_SALT = "dynamo-cache-salt:"
"""What SGLang writes before a cache salt, for the router whose constant this is."""
_FULL_ATTENTION = "full_attention"
_GROUP = 0
_SIGN = 1 << 63


class EventWriter:
    """Writes batches in one form."""

    def __init__(self, form: str, block_size: int, adapter_number: Callable[[str], int | None], rank: int = 0) -> None:
        """`form`: one of `FORMS`; `adapter_number`: id of a LoRA name; `rank`: the data-parallel rank that is named."""
        self._form = form
        self._block_size = block_size
        self._adapter_number = adapter_number
        self._rank = rank
        self._write: Callable[[CacheEvent], Iterable[Any]] = {
            "map": self._maps,
            "bytes": self._maps,
            "array": self._arrays,
            "sglang": self._sglang,
        }[form]

    def batch(self, events: list[CacheEvent], time: float) -> bytes:
        """Payload of one message; `time`: Unix seconds."""
        payload: bytes = msgpack.packb([time, [written for event in events for written in self._write(event)], self._rank])
        return payload

    def _hash(self, name: int) -> int | bytes:
        return name.to_bytes(8, "little") * 3 + name.to_bytes(8, "big") if self._form == "bytes" else name

    def _hashes(self, names: list[int]) -> list[int | bytes]:
        return [self._hash(name) for name in names]

    def _lora_number(self, event: BlocksStored) -> int | None:
        return None if event.lora is None else self._adapter_number(event.lora)

    def _maps(self, event: CacheEvent) -> Iterable[dict[str, Any]]:
        if isinstance(event, BlocksStored):
            yield self._copied_map(event) if event.medium == CPU else self._stored_map(event)
        elif isinstance(event, BlocksRemoved):
            yield {"type": "BlockRemoved", "block_hashes": self._hashes(event.hashes), "medium": event.medium, "group_idx": _GROUP}
        else:
            yield {"type": "AllBlocksCleared"}

    def _stored_map(self, event: BlocksStored) -> dict[str, Any]:
        return {
            "type": "BlockStored",
            "block_hashes": self._hashes(event.hashes),
            "parent_block_hash": None if event.parent is None else self._hash(event.parent),
            "token_ids": tokenizer.unpack(event.tokens),
            "block_size": self._block_size,
            "lora_id": self._lora_number(event),
            "medium": event.medium,
            "lora_name": event.lora,
            "extra_keys": event.extra_keys,
            "group_idx": _GROUP,
            "kv_cache_spec_kind": _FULL_ATTENTION,
        }

    def _copied_map(self, event: BlocksStored) -> dict[str, Any]:
        return {
            "type": "BlockStored",
            "block_hashes": self._hashes(event.hashes),
            "parent_block_hash": None,
            "token_ids": [],
            "block_size": 0,
            "lora_id": None,
            "medium": event.medium,
            "lora_name": None,
            "group_idx": _GROUP,
        }

    def _arrays(self, event: CacheEvent) -> Iterable[list[Any]]:
        if isinstance(event, BlocksStored):
            if event.medium == CPU:
                yield ["BlockStored", event.hashes, None, [], 0, None, event.medium, None]
                return
            tokens = tokenizer.unpack(event.tokens)
            head = ["BlockStored", event.hashes, event.parent, tokens, self._block_size, self._lora_number(event), event.medium]
            extra = None if event.extra_keys is None else [_names(keys) for keys in event.extra_keys]
            yield [*head, event.lora, extra, _GROUP, _FULL_ATTENTION]
        elif isinstance(event, BlocksRemoved):
            yield ["BlockRemoved", event.hashes, event.medium, _GROUP]
        else:
            yield ["AllBlocksCleared"]

    def _sglang(self, event: CacheEvent) -> Iterable[list[Any]]:
        if isinstance(event, BlocksStored):
            size = self._block_size * tokenizer.TOKEN_BYTES
            medium = SGLANG_MEDIA.get(event.medium, event.medium)
            salt = [[SGLANG_SALT + event.salt]] if event.salt else None
            parent = event.parent
            for index, name in enumerate(event.hashes):
                tokens = tokenizer.unpack(event.tokens[index * size : (index + 1) * size])
                head = ["BlockStored", [_signed(name)], None if parent is None else _signed(parent), tokens, self._block_size, None]
                yield [*head, medium, event.lora, salt, None, None, None, None, None]
                parent = name
        elif isinstance(event, BlocksRemoved):
            medium = SGLANG_MEDIA.get(event.medium, event.medium)
            yield ["BlockRemoved", [_signed(name) for name in event.hashes], medium, None, None, None, None, None]
        else:
            yield ["AllBlocksCleared", None]


def _names(keys: ExtraKeys) -> list[str] | None:
    """Extra keys of older engines, which named a medium by its hash alone."""
    return None if keys is None else [key if isinstance(key, str) else key[0] for key in keys]


def _signed(name: int) -> int:
    return name - 2 * _SIGN if name >= _SIGN else name
