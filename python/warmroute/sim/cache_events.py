"""What a cache tells about its content: plain values, in the order in which things happened."""

from __future__ import annotations

from dataclasses import dataclass

GPU = "GPU"
CPU = "CPU"

ExtraKeys = tuple[str | tuple[str, int], ...] | None
"""What a block's content depends on beside its tokens: adapter, (hash of a medium, its offset in the block), salt."""


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Full blocks that can now be found, in order of the sequence."""

    hashes: list[int]
    parent: int | None
    """Hash of the block before the first, None at the start of a sequence."""
    tokens: bytes
    """Packed ids of all the blocks' tokens; empty where the tier does not know them."""
    lora: str | None = None
    extra_keys: list[ExtraKeys] | None = None
    """One per block; None where the tier does not know them."""
    salt: str = ""
    medium: str = GPU

    def part(self, start: int, end: int, medium: str) -> BlocksStored:
        """Blocks `start` to `end` (exclusive) of these, in a medium."""
        size = len(self.tokens) // len(self.hashes)
        return BlocksStored(
            self.hashes[start:end],
            self.hashes[start - 1] if start else self.parent,
            self.tokens[start * size : end * size],
            self.lora,
            None if self.extra_keys is None else self.extra_keys[start:end],
            self.salt,
            medium,
        )


@dataclass(frozen=True, slots=True)
class BlocksRemoved:
    """Blocks whose content is gone from a medium."""

    hashes: list[int]
    medium: str = GPU


@dataclass(frozen=True, slots=True)
class CacheCleared:
    """No block of the GPU can be found any more."""


CacheEvent = BlocksStored | BlocksRemoved | CacheCleared
