"""What a plugin sees of the request."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol


class Facts(Protocol):
    """What the engine knows of a request: `_core.PluginQuestion`."""

    @property
    def model(self) -> str:
        """See Request."""

    @property
    def prompt_tokens(self) -> int:
        """See Request."""

    @property
    def total_blocks(self) -> int:
        """See Request."""

    @property
    def block_tokens(self) -> int:
        """See Request."""

    @property
    def max_tokens(self) -> int | None:
        """See Request."""

    @property
    def priority(self) -> int:
        """See Request."""

    @property
    def fairness_id(self) -> str:
        """See Request."""

    @property
    def request_id(self) -> str:
        """See Request."""

    def headers(self) -> dict[str, str]:
        """First value of each header, names in lower case."""

    def request_attribute(self, key: str) -> str | None:
        """What a configured plugin found out about the request."""


class Request:
    """The request of one decision."""

    __slots__ = ("_facts", "_headers")

    def __init__(self, facts: Facts) -> None:
        """Headers are made when they are first asked for."""
        self._facts = facts
        self._headers: Mapping[str, str] | None = None

    @property
    def model(self) -> str:
        """Model that the engine will be asked for; empty where the payload names none."""
        return self._facts.model

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt: exact where the body carries token ids, else bytes / 4 rounded up."""
        return self._facts.prompt_tokens

    @property
    def total_blocks(self) -> int:
        """Blocks of the prompt that can be matched."""
        return self._facts.total_blocks

    @property
    def block_tokens(self) -> int:
        """Tokens in a block."""
        return self._facts.block_tokens

    @property
    def max_tokens(self) -> int | None:
        """The client's limit on output tokens, if it set one."""
        return self._facts.max_tokens

    @property
    def priority(self) -> int:
        """Priority of the request's objective; 0 where it names none."""
        return self._facts.priority

    @property
    def fairness_id(self) -> str:
        """The flow that the request belongs to."""
        return self._facts.fairness_id

    @property
    def request_id(self) -> str:
        """Its id."""
        return self._facts.request_id

    @property
    def headers(self) -> Mapping[str, str]:
        """Request headers, names in lower case, the first of several values; bytes that are no UTF-8 are replaced."""
        if self._headers is None:
            self._headers = MappingProxyType(self._facts.headers())
        return self._headers

    def attribute(self, key: str) -> str | None:
        """What a configured plugin found out about the request, such as "SessionID"; None where there is no such thing."""
        return self._facts.request_attribute(key)
