"""One sequence on its way through the engine: what was asked, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from . import output
from .cache import block_hash
from .tokenizer import TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cache_events import ExtraKeys
    from .prompt import Medium

FinishReason = Literal["stop", "length", "abort"]


def _ignore() -> None:
    """Nobody listens."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and the answer to it. The first group of fields is set by who submits it, the rest by the engine."""

    prompt: bytes
    """Packed token ids (see `tokenizer`), at least one token."""
    output_tokens: int
    """Tokens it will produce; 0: the prompt is only computed (embeddings)."""
    max_tokens: int
    """Tokens the client allowed; only for statistics and the finish reason."""
    seed: int = 0
    """Seed of the answer's text."""
    lora: str | None = None
    salt: str = ""
    """Cache salt: sequences share blocks only under the same one."""
    media: tuple[Medium, ...] = ()
    """Media whose placeholders stand in the prompt, by rising offset."""
    each_token: bool = False
    """Whether to call `listener` for each token, or only at the end."""
    listener: Callable[[], None] = _ignore
    """Called by the engine's host after a step that advanced the sequence."""

    prompt_tokens: int = field(init=False)
    computed: int = 0
    """Tokens whose KV is in the cache."""
    generated: int = 0
    """Tokens produced."""
    cached_tokens: int = 0
    """Prompt tokens found in the cache (GPU or CPU) when it was first admitted."""
    loaded_tokens: int = 0
    """Of these, tokens whose copies came from the CPU."""
    blocks: list[int] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    """Names of its full blocks, as far as they are known."""
    stored: int = 0
    """How many of its blocks have been named in the cache."""
    created_tokens: int = 0
    """Prompt tokens whose blocks it was the first to fill."""
    preemptions: int = 0
    arrived: float = 0.0
    admitted: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    finished: FinishReason | None = None

    def __post_init__(self) -> None:
        """Count the prompt."""
        self.prompt_tokens = len(self.prompt) // TOKEN_BYTES

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the answer so far."""
        return self.prompt_tokens + self.generated

    def tokens(self, start: int, end: int) -> bytes:
        """Packed tokens `start` to `end` of prompt and answer."""
        head = self.prompt[start * TOKEN_BYTES : end * TOKEN_BYTES]
        if end <= self.prompt_tokens:
            return head
        return head + output.tokens(self.seed, max(0, start - self.prompt_tokens), end - self.prompt_tokens)

    def extend_hashes(self, block_size: int, length: int) -> None:
        """Name all blocks that are full when the sequence has `length` tokens."""
        for index in range(len(self.hashes), length // block_size):
            parent = self.hashes[-1] if self.hashes else None
            # The adapter and the salt of the first block reach the others through `parent`; media have their own places.
            extra = repr((self.lora, self.salt, self.extra_keys(index, block_size))).encode() if parent is None or self.media else b""
            self.hashes.append(block_hash(parent, self.tokens(index * block_size, (index + 1) * block_size), extra))

    def extra_keys(self, index: int, block_size: int) -> ExtraKeys:
        """What block `index` depends on beside its tokens, as vLLM orders it: the adapter, media in it, in the first block the salt."""
        keys: list[str | tuple[str, int]] = [self.lora] if self.lora else []
        start = index * block_size
        keys += [(medium.hash, medium.offset - start) for medium in self.media if medium.offset < start + block_size and medium.end > start]
        if self.salt and not index:
            keys.append(self.salt)
        return tuple(keys) or None

    def text(self, start: int, end: int) -> str:
        """Text of the answer's tokens `start` to `end`."""
        return output.text(self.seed, start, end)
