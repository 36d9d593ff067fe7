"""What a simulated model answers: deterministic pseudo-text and how long it is.

Both are seeded by the prompt, so the same prompt gets the same answer on every replica and in every run, and a
test can tell a mixed-up answer from a right one. Every output token is one four-byte word, so an answer sent back
as part of the next prompt falls on the same token boundaries and hits the cache as it would on a real engine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_CONSONANTS = "bdfgklmnprstvwhz"
_VOWELS = "aeio"
_WORDS = tuple(f" {first}{vowel}{last}".encode() for first in _CONSONANTS for vowel in _VOWELS for last in "nrst")
"""256 words of four bytes: one token each."""


class OutputLengthError(ValueError):
    """A `--output-tokens` value that is no distribution."""


def _mix(seed: int, index: int) -> int:
    """Splitmix64 finaliser: a well-spread 64-bit value for (seed, index)."""
    value = (seed + index * _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def seed_of(prompt: bytes, choice: int = 0) -> int:
    """Seed of an answer: the prompt and the index of the choice."""
    return int.from_bytes(blake2b(prompt, digest_size=8, salt=choice.to_bytes(8, "little")).digest(), "little")


def tokens(seed: int, start: int, end: int) -> bytes:
    """Packed output tokens `start` to `end` (exclusive)."""
    return b"".join(_WORDS[_mix(seed, index) & 0xFF] for index in range(start, end))


def text(seed: int, start: int, end: int) -> str:
    """Text of output tokens `start` to `end` (exclusive)."""
    return tokens(seed, start, end).decode("ascii")


@dataclass(frozen=True, slots=True)
class OutputLength:
    """Distribution of the natural length of an answer, in tokens."""

    kind: str
    first: float
    second: float

    def sample(self, seed: int) -> int:
        """Length for an answer with this seed; at least 1."""
        if self.kind == "fixed":
            return int(self.first)
        left = (_mix(seed, -1) + 1) / (_MASK + 2)
        if self.kind == "uniform":
            return int(self.first + left * (self.second - self.first + 1))
        right = (_mix(seed, -2) + 1) / (_MASK + 2)
        normal = math.sqrt(-2 * math.log(left)) * math.cos(2 * math.pi * right)
        # The mean of a lognormal is exp(mu + sigma^2 / 2): shift mu so that the given mean is the mean.
        return max(1, round(math.exp(math.log(self.first) - self.second**2 / 2 + self.second * normal)))


DEFAULT_LENGTH = OutputLength("lognormal", 128.0, 0.5)
"""Natural length of a chat answer when the request sets no maximum."""


def parse_output_length(value: str) -> OutputLength:
    """Read `N`, `uniform:LOW:HIGH` or `lognormal:MEAN[:SIGMA]` (tokens).

    Raises:
        OutputLengthError: anything else, or a length below 1.
    """
    kind, _, rest = value.partition(":")
    problem = f"output length {value!r}: expected N, uniform:LOW:HIGH or lognormal:MEAN[:SIGMA], lengths of 1 or more"
    try:
        if not rest:
            length = OutputLength("fixed", int(kind), 0)
        elif kind == "uniform":
            low, high = (int(part) for part in rest.split(":"))
            length = OutputLength(kind, low, high)
        elif kind == "lognormal":
            mean, _, sigma = rest.partition(":")
            length = OutputLength(kind, float(mean), float(sigma or 0.5))
        else:
            raise OutputLengthError(problem)
    except ValueError as error:
        raise OutputLengthError(problem) from error
    sensible = math.isfinite(length.first) and math.isfinite(length.second) and 0 <= length.second < 2**31
    if not sensible or not 1 <= length.first < 2**31 or (length.kind == "uniform" and length.second < length.first):
        raise OutputLengthError(problem)
    if length.kind == "lognormal" and length.second > 3:  # noqa: PLR2004 - beyond it the sampled mean means nothing
        raise OutputLengthError(problem)
    return length
