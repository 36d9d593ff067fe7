"""Faults that a replica can be told to have.

| kind | what a client sees |
|---|---|
| `refuse` | connection refused: listener closed, connections cut (probability below 1: that share of new ones reset) |
| `500`, `503` | that status before anything else |
| `reset` | the connection is reset before the response headers |
| `reset-mid-stream` | reset after `after_chunks` chunks; without streaming, in the middle of the body |
| `hang` | no answer until the fault is cleared, or for `seconds` |
| `slow` | the answer starts `seconds` late |

Of the KV event publisher, where requests go on as ever:

| kind | what a subscriber sees |
|---|---|
| `events-drop` | each message number `every` is missing; it can be replayed |
| `events-lose` | the same, and it cannot be replayed |
| `events-duplicate` | each message number `every` comes twice |
| `events-silent` | nothing, no replay either; what was missed can be replayed once the fault is cleared |
| `events-restart` | at once, and no fault stays: connection cut, cache empty without a word, numbers from 0, nothing to replay |
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

REQUEST_KINDS = ("refuse", "500", "503", "reset", "reset-mid-stream", "hang", "slow")
RESTART = "events-restart"
EVENT_KINDS = ("events-drop", "events-lose", "events-duplicate", "events-silent", RESTART)
"""Faults of the KV event publisher."""
COUNTED_KINDS = ("events-drop", "events-lose", "events-duplicate")
"""Those that strike each message number `every`."""
KINDS = (*REQUEST_KINDS, *EVENT_KINDS)
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
    every: int = 2
    """`events-drop`, `events-lose`, `events-duplicate`: each message of this number is hit, from the fault's beginning on."""
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
        _check(self.every >= 1, f"every must be 1 or more, not {self.every}")
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
        if self.of_events or (not inference and self.scope != "all"):
            return False
        return self.probability >= 1 or random.random() < self.probability

    @property
    def of_events(self) -> bool:
        """Whether it is the KV event publisher's."""
        return self.kind in EVENT_KINDS

    @property
    def delay(self) -> float:
        """Seconds that a `slow` answer starts late."""
        return DEFAULT_SLOW_SECONDS if self.seconds is None else self.seconds


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise FaultError(message)
