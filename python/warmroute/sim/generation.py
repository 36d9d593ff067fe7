"""One HTTP request's sequences, from the parameters in its body to the tokens that arrive."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import output
from .errors import bad_request
from .sequence import Sequence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from .driver import EngineDriver
    from .prompt import Prompt

MAX_CHOICES = 128
COMPLETION_DEFAULT_TOKENS = 16
"""`max_tokens` of a completion that names none (OpenAI's and vLLM's default)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What a request says about its answer."""

    max_tokens: int | None
    """None: up to the model's limit."""
    min_tokens: int = 0
    ignore_eos: bool = False
    choices: int = 1
    salt: str = ""


def read_sampling(body: Mapping[str, Any], *names: str, default: int | None = None) -> Sampling:
    """Parameters of a body; the first of `names` that is set gives the maximum of tokens.

    Raises:
        ApiError: a value that vLLM refuses.
    """
    limits = [value for name in names if (value := _integer(body, name, 1)) is not None]
    choices = _integer(body, "n", 1) or 1
    if choices > MAX_CHOICES:
        raise bad_request(f"n must be at most {MAX_CHOICES}, got {choices}.", "n")
    salt = body.get("cache_salt")
    if salt is not None and (not isinstance(salt, str) or not salt):
        raise bad_request("Parameter 'cache_salt' must be a non-empty string if provided.", "cache_salt")
    temperature = body.get("temperature")
    if temperature is not None and (not _number(temperature) or temperature < 0):
        raise bad_request(f"temperature must be non-negative, got {temperature}.", "temperature")
    return Sampling(
        max_tokens=limits[0] if limits else default,
        min_tokens=_integer(body, "min_tokens", 0) or 0,
        ignore_eos=bool(body.get("ignore_eos")),
        choices=choices,
        salt=salt or "",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds an answer on this replica."""

    max_model_len: int
    output_length: output.OutputLength | None


class Generation:
    """Sequences that run for one request; leaving the context aborts what has not finished."""

    def __init__(self, driver: EngineDriver, sequences: list[Sequence], choices: int = 1) -> None:
        """`sequences` are submitted on entering; `choices`: how many of them share each prompt."""
        self.sequences = sequences
        self.choices = choices
        self._driver = driver
        self._advanced = asyncio.Event()
        for sequence in sequences:
            sequence.listener = self._advanced.set

    def __enter__(self) -> Generation:  # noqa: PYI034 - the class is final in use
        """Submit the sequences."""
        for sequence in self.sequences:
            self._driver.submit(sequence)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Free the slots of a client that went away."""
        for sequence in self.sequences:
            if sequence.finished is None:
                self._driver.abort(sequence)

    @property
    def done(self) -> bool:
        """Whether every sequence has finished."""
        return all(sequence.finished is not None for sequence in self.sequences)

    async def advance(self) -> None:
        """Wait until a sequence has something new."""
        await self._advanced.wait()
        self._advanced.clear()

    async def finish(self) -> None:
        """Wait until every sequence has finished."""
        while not self.done:
            await self.advance()


def make_sequences(prompts: list[Prompt], sampling: Sampling, limits: Limits, *, lora: str | None, stream: bool, natural: bool) -> list[Sequence]:
    """A sequence per prompt and choice. `natural`: without a maximum, end by oneself (chat) instead of at the limit.

    Raises:
        ApiError: prompt or maximum too long for the model.
    """
    sequences = []
    for prompt in prompts:
        used = prompt.tokens
        room = limits.max_model_len - used
        if room < 1:
            message = (
                f"This model's maximum context length is {limits.max_model_len} tokens. However, your request has "
                f"{used} input tokens. Please reduce the length of the input messages."
            )
            raise bad_request(message, "input_tokens")
        asked = sampling.max_tokens
        if asked is not None and asked > room:
            message = (
                f"'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length "
                f"is {limits.max_model_len} tokens and your request has {used} input tokens "
                f"({asked} > {limits.max_model_len} - {used})."
            )
            raise bad_request(message, "max_tokens")
        for choice in range(sampling.choices):
            seed = output.seed_of(prompt.identity, choice)
            maximum = room if asked is None else asked
            length = limits.output_length or (output.DEFAULT_LENGTH if natural and asked is None else None)
            tokens = maximum if length is None or sampling.ignore_eos else min(maximum, max(sampling.min_tokens, length.sample(seed)))
            sequence = Sequence(prompt.packed, tokens, maximum, seed, lora, sampling.salt, prompt.media, each_token=stream)
            sequences.append(sequence)
    return sequences


def embedding_sequences(prompts: list[Prompt], limits: Limits, lora: str | None) -> list[Sequence]:
    """A sequence per prompt that is computed and answers nothing.

    Raises:
        ApiError: a prompt too long for the model.
    """
    for prompt in prompts:
        if prompt.tokens > limits.max_model_len:
            message = (
                f"This model's maximum context length is {limits.max_model_len} tokens. However, your request has "
                f"{prompt.tokens} input tokens. Please reduce the length of the input messages."
            )
            raise bad_request(message, "input_tokens")
    return [Sequence(prompt.packed, 0, 0, output.seed_of(prompt.identity), lora, media=prompt.media) for prompt in prompts]


def _integer(body: Mapping[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise bad_request(f"{name} must be an integer of at least {least}, got {value!r}.", name)
    return value


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
