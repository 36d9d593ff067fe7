"""KV events in the local gateway: where each model server publishes, and the picker's configuration that makes use of it."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from warmroute import policies
from warmroute.config.errors import ConfigError
from warmroute.discovery.endpoints import EndpointRecord
from warmroute.kv_events.settings import (
    DEFAULT_SOCKET_PORT,
    EVENTS_LABEL,
    REPLAY_LABEL,
    KvEventsError,
    KvEventsSettings,
    check_template,
)
from warmroute.kv_events.sink import PoolEndpoint
from warmroute.kv_events.targets import Target, TargetBook
from warmroute.local.errors import UsageError
from warmroute.local.ports import PortBook
from warmroute.local.settings import KvEventsOptions

_PRODUCER = "precise-prefix-cache-producer"
_LOOPBACK = "127.0.0.1"
# Less than Envoy waits for the picker (`bootstrap.MESSAGE_TIMEOUT`), which would then go on without it.
_PATIENCE = "3s"
_EXAMPLE = f"""\
  plugins:
  - type: token-producer
    parameters: {{local: {{path: /models/my-model}}}}
  - type: {_PRODUCER}
    parameters: {{kvEventsConfig: {{topicFilter: ""}}}}"""


class SimulatedPublishers:
    """The ports of the publishers of a simulated pool, one for events and one for replays each."""

    def __init__(self, book: PortBook, replicas: int) -> None:
        """Find free ones."""
        self._events = book.find(_LOOPBACK, "the KV events of the simulated model servers", replicas)
        self._replays = book.find(_LOOPBACK, "the replays of their KV events", replicas)

    def arguments(self) -> list[str]:
        """Flags of `warmroute sim`."""
        return [f"--kv-events=tcp://*:{self._events}", f"--kv-events-replay=tcp://*:{self._replays}"]

    def label(self, endpoints: Iterable[EndpointRecord]) -> tuple[EndpointRecord, ...]:
        """The endpoints, in the order of the replicas, with the addresses of their publishers."""
        return tuple(
            _labelled(endpoint, f"tcp://{_LOOPBACK}:{self._events + index}", f"tcp://{_LOOPBACK}:{self._replays + index}")
            for index, endpoint in enumerate(endpoints)
        )


class NamedPublishers:
    """The publishers of real model servers, by a template.

    The addresses are worked out here, where the whole pool is known: the picker does not see servers that fail their health check, and would count
    ranks without them.
    """

    def __init__(self, template: str, replay_port: int) -> None:
        """`template`: checked. A port in it counts up with the servers behind one address."""
        head, _, port = template.rpartition(":")
        counts = template.startswith("tcp://") and port.isascii() and port.isdigit()
        self._book = TargetBook(
            KvEventsSettings(
                template=f"{head}:{{port}}" if counts else template,
                socket_port=int(port) if counts else DEFAULT_SOCKET_PORT,
                replay_port=replay_port,
            )
        )
        self._numbers: dict[tuple[str, str], int] = {}

    def label(self, endpoints: Iterable[EndpointRecord]) -> tuple[EndpointRecord, ...]:
        """The endpoints with the addresses of their publishers, but for those that say it themselves."""
        given = tuple(endpoints)
        self._numbers = {
            endpoint.key: self._numbers.get(endpoint.key, number)
            for number, endpoint in enumerate(given, start=max(self._numbers.values(), default=-1) + 1)
        }
        pool = [
            PoolEndpoint(
                self._numbers[endpoint.key], endpoint.port, endpoint.namespace, endpoint.name, endpoint.address, endpoint.port, endpoint.labels
            )
            for endpoint in given
        ]
        targets = self._book.update(pool)
        return tuple(_with_target(endpoint, targets.get((self._numbers[endpoint.key], endpoint.port, 0))) for endpoint in given)


Publishers = SimulatedPublishers | NamedPublishers


def _with_target(endpoint: EndpointRecord, target: Target | None) -> EndpointRecord:
    return endpoint if target is None or target.address is None else _labelled(endpoint, target.address, target.replay)


def _labelled(endpoint: EndpointRecord, events: str, replay: str | None) -> EndpointRecord:
    labels = {EVENTS_LABEL: events} | ({} if replay is None else {REPLAY_LABEL: replay}) | dict(endpoint.labels)
    return dataclasses.replace(endpoint, labels=labels)


def check_publishers(options: KvEventsOptions) -> None:
    """Whether the publishers of real model servers are named.

    Raises:
        UsageError: saying what is missing or wrong.
    """
    if not options.template:
        message = "--kv-events needs the address at which your model servers publish, such as --kv-events 'tcp://{address}:5557'; {address} is each server's own."
        raise UsageError(message)
    try:
        check_template(options.template, "--kv-events")
    except KvEventsError as error:
        message = f"{error}."
        raise UsageError(message) from error


def check_tokenizer(tokenizer: str) -> None:
    """Whether it is a path that exists, or a URL.

    Raises:
        UsageError: saying what is wrong.
    """
    if "://" not in tokenizer:
        if not Path(tokenizer).exists():
            message = f"--tokenizer {tokenizer}: no such file or folder; nothing is downloaded. Give the folder that has the model's tokenizer.json, or a URL."
            raise UsageError(message)
        return
    try:
        parts = urlsplit(tokenizer)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        message = f"--tokenizer {tokenizer}: expected a path, or a URL as http://HOST:PORT."
        raise UsageError(message)


def write_configuration(path: Path, tokenizer: str, policy: str) -> None:
    """Write a configuration of the picker that uses the exact index under `policy` (empty: the default one).

    `tokenizer`: URL of a server that renders prompts as vLLM does, or path of a tokenizer.
    """
    by: dict[str, Any] = (
        {"vllm": {"url": tokenizer.rstrip("/"), "timeout": _PATIENCE, "mmTimeout": _PATIENCE}}
        if "://" in tokenizer
        else {"local": {"path": str(Path(tokenizer).absolute())}}
    )
    plugins: list[dict[str, Any]] = [
        {"type": "token-producer", "parameters": by},
        # Each server has a socket of its own here: who publishes is known without a topic, and vLLM's default topic is empty.
        # And a burst of one prompt stays together, as it does without events: the first event comes after the first prefill.
        {"type": _PRODUCER, "parameters": {"kvEventsConfig": {"topicFilter": ""}, "speculativeIndexing": True}},
    ]
    document = policies.document(policy or policies.DEFAULT).data
    document["plugins"] = plugins + document["plugins"]
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def check_configuration(path: Path) -> None:
    """Whether the user's own configuration makes use of KV events.

    Raises:
        UsageError: it cannot be read, or names no producer that subscribes to them.
    """
    from warmroute.config.document import read_document  # noqa: PLC0415 -- costs start-up time

    try:
        data = read_document(path).data
    except ConfigError as error:
        message = f"--config-file {path}: {error}"
        raise UsageError(message) from error
    plugins = data.get("plugins") if isinstance(data, dict) else None
    if not any(isinstance(plugin, dict) and plugin.get("type") == _PRODUCER for plugin in plugins or ()):
        message = f"--kv-events with --config-file {path}: the configuration has no {_PRODUCER}, so nothing would receive the events. Add for example:\n{_EXAMPLE}"
        raise UsageError(message)
