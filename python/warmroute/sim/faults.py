"""Faults that a replica can be told to have.

| kind | what a client sees |
|---|---|
| `refuse` | connection refused: listener closed, connections cut (probability below 1: that share of new ones reset) |
| `500`, `503` | that status before anything else |
| `reset` | the connection is reset before the response headers |
| `reset-mid-stream` | reset after `after_chunks` chunks; without streaming, in the middle of the body |
| `hang` | no answer until the fault is cleared, or for `seconds` |
| `slow` | the answer starts `seconds` late |
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

KINDS = ("refuse", "500", "503", "reset", "reset-mid-stream", "hang", "slow")
SCOPES = ("inference", "all")
DEFAULT_SLOW_SECONDS = 1.0


class FaultError(ValueError):
    """A fault that does not exist; the message names the field."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    kind: str
    probability: float = 1.0
    """Share of the requests that it hits."""
    after_chunks: int = 3
    """`reset-mid-stream`: chunks that still pass."""
    seconds: float | None = None
    """`slow`: delay (default 1); `hang`: how long (default: until cleared)."""
    scope: str = "inference"
    """`inference`: only requests that run the model; `all`: health, metrics and the rest too."""
    duration_seconds: float | None = None
    """After this time the fault clears itself; None: never."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            FaultError: naming the field.
        """
        _check(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        _check(self.scope in SCOPES, f"scope must be one of {', '.join(SCOPES)}, not {self.scope!r}")
        _check(0 <= self.probability <= 1, f"probability must be between 0 and 1, not {self.probability}")
        _check(self.after_chunks >= 0, f"after_chunks must be 0 or more, not {self.after_chunks}")
        for name in ("seconds", "duration_seconds"):
            value = getattr(self, name)
            _check(value is None or (math.isfinite(value) and value >= 0), f"{name} must be 0 or more, not {value}")

    @classmethod
    def from_json(cls, document: object) -> Fault:
        """Read the body of `POST /sim/fault`.

        Raises:
            FaultError: naming what is wrong.
        """
        if not isinstance(document, dict) or "kind" not in document:
            message = "expected a JSON object with `kind`"
            raise FaultError(message)
        hints = get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, value in document.items():
            if name not in hints:
                message = f"unknown field {name!r}; known: {', '.join(hints)}"
                raise FaultError(message)
            wanted = get_args(hints[name]) or (hints[name],)
            accepted = (*wanted, int) if float in wanted else wanted
            converted = str(value) if name == "kind" and isinstance(value, int) else value
            if isinstance(value, bool) or not isinstance(converted, accepted):
                message = f"{name} must be of type {hints[name]}, not {value!r}"
                raise FaultError(message)
            values[name] = converted
        return cls(**values)

    def strikes(self, *, inference: bool) -> bool:
        """Whether it hits the next request (drawn at random)."""
        if not inference and self.scope != "all":
            return False
        return self.probability >= 1 or random.random() < self.probability

    @property
    def delay(self) -> float:
        """Seconds that a `slow` answer starts late."""
        return DEFAULT_SLOW_SECONDS if self.seconds is None else self.seconds


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise FaultError(message)
