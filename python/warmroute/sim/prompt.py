"""A prompt as the engine takes it: packed token ids, and the media that placeholders among them stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b

from . import tokenizer

PLACEHOLDER = tokenizer.pack([tokenizer.MAX_TOKEN_ID])
"""Token that stands for a medium: four bytes that no text has."""
MEDIUM_TOKENS = 225
"""Placeholders of any medium: what the reference estimates for an image of unknown size (640 x 360 / 1024)."""
HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class Medium:
    """An image, a video or a sound in a prompt."""

    modality: str
    offset: int
    """Position of its first placeholder, in tokens."""
    length: int
    hash: str
    """Hexadecimal hash of its content, or the client's own identifier of it."""

    @property
    def end(self) -> int:
        """Position after its last placeholder."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Prompt:
    """Packed token ids (see `tokenizer`) and the media among them, by rising offset."""

    packed: bytes
    media: tuple[Medium, ...] = ()

    @property
    def tokens(self) -> int:
        """How many."""
        return tokenizer.count(self.packed)

    @property
    def identity(self) -> bytes:
        """What the answer is seeded by: tokens, and which media they stand for."""
        return self.packed + b"".join(medium.hash.encode() for medium in self.media)


@dataclass(slots=True)
class PromptBuilder:
    """Puts a prompt together, part by part; each part begins on a token."""

    _parts: list[bytes] = field(default_factory=list)
    _media: list[Medium] = field(default_factory=list)
    _tokens: int = 0

    def text(self, text: str) -> None:
        """A text, padded to whole tokens."""
        packed = tokenizer.encode(text)
        self._parts.append(packed)
        self._tokens += tokenizer.count(packed)

    def medium(self, modality: str, content: object, identifier: str | None = None) -> None:
        """A medium; `content`: what the request says of it, as JSON values."""
        name = identifier or blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=HASH_BYTES).hexdigest()
        self._media.append(Medium(modality, self._tokens, MEDIUM_TOKENS, name))
        self._parts.append(PLACEHOLDER * MEDIUM_TOKENS)
        self._tokens += MEDIUM_TOKENS

    def build(self) -> Prompt:
        """The prompt."""
        return Prompt(b"".join(self._parts), tuple(self._media))
