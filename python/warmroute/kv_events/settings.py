"""Where model servers publish their KV events: the `kvEventsConfig` of `precise-prefix-cache-producer`, checked."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from warmroute.config.errors import UsageError, nearest

DEFAULT_TEMPLATE = "tcp://{address}:{port}"
DEFAULT_TOPIC_FILTER = "kv@"
DEFAULT_SOCKET_PORT = 5557
# Labels of an endpoint that say where it publishes and replays, whatever the template: a whole address, or only a port of its own address.
EVENTS_LABEL = "warmroute.dev/kv-events"
REPLAY_LABEL = "warmroute.dev/kv-events-replay"
# How many engines are behind an endpoint that spreads requests over them itself: each publishes at the next port.
ENGINES_LABEL = "warmroute.dev/kv-events-ranks"
# The reference's label for which of several engines behind one address an endpoint is.
RANK_LABEL = "llm-d.ai/data-parallel-rank"
ENGINES = ("vllm", "sglang")
HIGHEST_PORT = 65_535
_FIELDS = ("address", "port", "rank", "name")
_FORM = "expected tcp://HOST:PORT or ipc://PATH"


class KvEventsError(UsageError):
    """KV events cannot be received as configured; the message says what to change."""


@dataclass(frozen=True, slots=True)
class KvEventsSettings:
    """How KV events reach the picker. With `discover` it connects to every endpoint, with `bind` engines connect to it; both may be on."""

    discover: bool = True
    #: Address of an endpoint's publisher; `{address}`, `{port}`, `{rank}` and `{name}` are replaced.
    template: str = DEFAULT_TEMPLATE
    #: Address at which engines publish to the picker, such as tcp://*:5557; empty: none.
    bind: str = ""
    #: Messages whose topic begins otherwise are not asked for. vLLM's own default topic is empty, which only an empty filter lets pass.
    topic_filter: str = DEFAULT_TOPIC_FILTER
    engine: str = "vllm"
    #: `{port}` is this plus the rank.
    socket_port: int = DEFAULT_SOCKET_PORT
    #: Missed messages are asked for at this port plus the rank; 0: not at all.
    replay_port: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without a socket.

        Raises:
            KvEventsError: naming the parameter.
        """
        if self.engine not in ENGINES:
            message = f'kvEventsConfig.engineType: "{self.engine}" is not known{nearest(self.engine, ENGINES)}; expected one of {", ".join(ENGINES)}'
            raise KvEventsError(message)
        for field, port, least in (("socketPort", self.socket_port, 1), ("replaySocketPort", self.replay_port, 0)):
            if not least <= port <= HIGHEST_PORT:
                message = f"kvEventsConfig.podDiscoveryConfig.{field}: must be a port from {least} to {HIGHEST_PORT}, not {port}"
                raise KvEventsError(message)
        if self.bind:
            # All addresses of this machine, and any free port.
            _check_address(
                "kvEventsConfig.zmqEndpoint", self.bind.replace("tcp://*", "tcp://0.0.0.0").removesuffix("*") + "1" * self.bind.endswith(":*")
            )
        if not self.discover and not self.bind:
            message = "kvEventsConfig: nothing to subscribe to; set discoverPods to true, or zmqEndpoint to an address such as tcp://*:5557 to which the engines connect"
            raise KvEventsError(message)
        check_template(self.template)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> "KvEventsSettings":
        """The settings of a `kvEventsConfig` object; what it leaves out has its default.

        Raises:
            KvEventsError: naming the parameter that cannot be.
        """
        pods = parameters.get("podDiscoveryConfig") or {}
        return cls(
            discover=bool(parameters.get("discoverPods", True)),
            template=pods.get("addressTemplate") or DEFAULT_TEMPLATE,
            bind=parameters.get("zmqEndpoint") or "",
            topic_filter=DEFAULT_TOPIC_FILTER if parameters.get("topicFilter") is None else parameters["topicFilter"],
            engine=parameters.get("engineType") or "vllm",
            socket_port=pods.get("socketPort") or DEFAULT_SOCKET_PORT,
            replay_port=pods.get("replaySocketPort") or 0,
        )


def check_template(template: str, name: str = "kvEventsConfig.podDiscoveryConfig.addressTemplate") -> None:
    """Whether the template gives an address; `name` is what an error calls it.

    Raises:
        KvEventsError: an unknown field, unbalanced braces, or no address comes out.
    """
    try:
        used = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        message = f"{name}: {template!r}: {error}; write a brace that is meant as such twice"
        raise KvEventsError(message) from error
    for field in used:
        if field not in _FIELDS:
            known = ", ".join(f"{{{known}}}" for known in _FIELDS)
            message = f"{name}: {template!r}: nothing is known as {{{field}}}{nearest(field, _FIELDS)}; use {known}"
            raise KvEventsError(message)
    _check_address(name, fill(template, "127.0.0.1", DEFAULT_SOCKET_PORT, 0, "name"))


def fill(template: str, host: str, port: int, rank: int, name: str) -> str:
    """The address of one endpoint; an IPv6 literal gets its brackets."""
    return template.format(address=bracketed(host), port=port, rank=rank, name=name)


def bracketed(host: str) -> str:
    """The host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def with_port(address: str, port: int) -> str | None:
    """The same host at another port; None where the address has no port."""
    if not address.startswith("tcp://"):
        return None
    return f"{address.rpartition(':')[0]}:{port}"


def _check_address(name: str, address: str) -> None:
    problem = address_problem(address)
    if problem:
        message = f"{name}: {problem}"
        raise KvEventsError(message)


def address_problem(address: str) -> str:
    """What is wrong with an address to connect to or bind; empty when nothing is."""
    if address.startswith("ipc://") and len(address) > len("ipc://"):
        return ""
    if not address.startswith("tcp://"):
        return f"{address!r}: {_FORM}"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return f"{address!r}: the port must be a number from 1 to {HIGHEST_PORT}"
    if not parts.hostname or port is None or parts.path or parts.query:
        return f"{address!r}: {_FORM}"
    return "" if port else f"{address!r}: there is no port 0 to connect to"
