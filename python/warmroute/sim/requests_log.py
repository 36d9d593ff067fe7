"""What a replica remembers of the requests it got, for tests to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_BODY_BYTES = 16 * 1024
"""Longer bodies are remembered by their length only."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One inference request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case; of repeated headers the last."""
    body: bytes | None
    """None when longer than `MAX_BODY_BYTES`."""
    body_bytes: int
    received: float
    """Unix time."""

    def document(self) -> dict[str, Any]:
        """For `GET /sim/requests`."""
        body = None if self.body is None else self.body.decode("utf-8", "replace")
        return {
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": body,
            "body_bytes": self.body_bytes,
            "received": self.received,
        }
