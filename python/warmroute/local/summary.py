"""What the gateway prints once when it is up."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_SHOWN_ENDPOINTS = 8


@dataclass(frozen=True, slots=True)
class Summary:
    """The facts of a gateway that serves; addresses are URLs."""

    gateway: str
    models: tuple[str, ...]
    admin: str
    metrics: str
    endpoints: tuple[str, ...]
    pids: dict[str, int]
    logs: str
    #: Who makes token ids for the exact prefix index; empty where there is none.
    tokenizer: str
    #: Since the command started.
    seconds: float

    def to_json(self) -> dict[str, object]:
        """As fields of the event `ready`."""
        return asdict(self)

    def render(self) -> str:
        """For people, the line to copy last."""
        rows = [
            ("send to", f"{self.gateway}/v1"),
            ("models", ", ".join(self.models) or "none found"),
            ("endpoints", _shortened(self.endpoints)),
            *([("prefixes", f"as the model servers tell; tokens from {self.tokenizer}")] if self.tokenizer else []),
            ("metrics", f"{self.metrics}/metrics"),
            ("admin", f"{self.admin} (Envoy)"),
            ("logs", self.logs),
        ]
        lines = [f"warmroute is up after {self.seconds:.1f} s", *(f"  {name:<10} {value}" for name, value in rows), "", f"  {self.curl()}", ""]
        return "\n".join(lines)

    def curl(self) -> str:
        """A request to copy into a shell."""
        if not self.models:
            return f"curl {self.gateway}/v1/models"
        body = json.dumps({"model": self.models[0], "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32})
        quoted = body.replace("'", "'\\''")
        return f"curl {self.gateway}/v1/chat/completions -H 'content-type: application/json' -d '{quoted}'"


def _shortened(endpoints: Sequence[str]) -> str:
    if not endpoints:
        return "none yet (requests get 503 until the endpoints file names some)"
    shown = ", ".join(endpoints[:_SHOWN_ENDPOINTS])
    more = len(endpoints) - _SHOWN_ENDPOINTS
    return f"{shown} and {more} more" if more > 0 else shown
