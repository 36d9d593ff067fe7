"""From the endpoints of the pool to addresses: which engine behind an address an endpoint is, and where that one publishes."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from warmroute.kv_events.settings import (
    ENGINES_LABEL,
    EVENTS_LABEL,
    HIGHEST_PORT,
    RANK_LABEL,
    REPLAY_LABEL,
    KvEventsSettings,
    address_problem,
    bracketed,
    fill,
    with_port,
)
from warmroute.kv_events.sink import PoolEndpoint
from warmroute.logging import fields

logger = logging.getLogger(__name__)

# Which slot, which of the servers that ever had it, and which engine of that one.
Key = tuple[int, int, int]
_MOST_ENGINES = 64


@dataclass(frozen=True, slots=True)
class Target:
    """Where one engine of an endpoint publishes. `address` None: not to a socket of its own; `replay` None: it replays nothing."""

    key: Key
    pod: str
    rank: int
    address: str | None
    replay: str | None
    #: What the topic of a shared socket may call it: `ip:port`, `ip`, its name.
    names: tuple[str, ...]


class TargetBook:
    """Turns looks at the pool into targets. A rank, once given, stays while the endpoint lives: others that come or go do not move its address."""

    def __init__(self, settings: KvEventsSettings) -> None:
        """No endpoint is known yet."""
        self._settings = settings
        self._ranks: dict[_Server, int] = {}
        self._told: dict[Key, str] = {}

    def update(self, pool: Iterable[PoolEndpoint]) -> dict[Key, Target]:
        """The targets of this pool. An endpoint whose address cannot be is left out, with a line in the log."""
        endpoints = sorted(pool, key=lambda endpoint: (endpoint.address, endpoint.port))
        by_address: dict[str, list[PoolEndpoint]] = {}
        for endpoint in endpoints:
            by_address.setdefault(endpoint.address, []).append(endpoint)
        targets: dict[Key, Target] = {}
        told: dict[Key, str] = {}
        ranks: dict[_Server, int] = {}
        for neighbours in by_address.values():
            ranks |= self._rank(neighbours)
        for endpoint in endpoints:
            try:
                made = list(self._made(endpoint, ranks[_server(endpoint)]))
            except _AddressError as error:
                told[*_server(endpoint), 0] = str(error)
            else:
                targets |= {target.key: target for target in made}
        self._leave_out_doubles(targets, told)
        for key, problem in told.items():
            if self._told.get(key) != problem:
                logger.error("KV events of an endpoint cannot be received", extra=fields(slot=key[0], error=problem))
        self._ranks, self._told = ranks, told
        return targets

    def _rank(self, neighbours: list[PoolEndpoint]) -> dict["_Server", int]:
        """Ranks of the endpoints of one address, which are in the order of their ports."""
        ranks: dict[_Server, int] = {}
        for endpoint in neighbours:
            server = _server(endpoint)
            label = endpoint.labels.get(RANK_LABEL, "")
            if label.isascii() and label.isdigit() and int(label[:6]) <= HIGHEST_PORT:
                ranks[server] = int(label)
            elif server in self._ranks:
                ranks[server] = self._ranks[server]
        taken = {ranks[_server(endpoint)] + number for endpoint in neighbours if _server(endpoint) in ranks for number in range(_engines(endpoint))}
        position = 0
        for endpoint in neighbours:
            server, engines = _server(endpoint), _engines(endpoint)
            if server not in ranks:
                rank = position
                while not taken.isdisjoint(range(rank, rank + engines)):
                    rank += 1
                ranks[server] = rank
                taken.update(range(rank, rank + engines))
            position += engines
        return ranks

    def _made(self, endpoint: PoolEndpoint, rank: int) -> Iterator[Target]:
        """One for each engine of the endpoint."""
        first = self._target(endpoint, rank)
        yield first
        for number in range(1, _engines(endpoint)):
            address, replay = (None if base is None else _counted(base, number) for base in (first.address, first.replay))
            # A topic names an endpoint, not its engines: what it says is the first one's.
            yield Target((*_server(endpoint), number), first.pod, rank + number, address, replay, ())

    def _target(self, endpoint: PoolEndpoint, rank: int) -> Target:
        settings = self._settings
        pod = f"{bracketed(endpoint.address)}:{endpoint.port}"
        address = None
        if settings.discover:
            given = endpoint.labels.get(EVENTS_LABEL, "")
            address = _labelled(EVENTS_LABEL, given, endpoint) if given else self._by_template(endpoint, rank)
        replay = None
        if given := endpoint.labels.get(REPLAY_LABEL, ""):
            replay = _labelled(REPLAY_LABEL, given, endpoint)
        elif settings.replay_port:
            beside = address or f"tcp://{bracketed(endpoint.address)}:1"
            replay = with_port(beside, _port(settings.replay_port + rank, "replaySocketPort"))
        names = (pod, endpoint.address, endpoint.name, f"{endpoint.namespace}/{endpoint.name}")
        return Target((*_server(endpoint), 0), pod, rank, address, replay, names)

    def _by_template(self, endpoint: PoolEndpoint, rank: int) -> str:
        address = fill(self._settings.template, endpoint.address, _port(self._settings.socket_port + rank, "socketPort"), rank, endpoint.name)
        if problem := address_problem(address):
            raise _AddressError(problem)
        return address

    @staticmethod
    def _leave_out_doubles(targets: dict[Key, Target], told: dict[Key, str]) -> None:
        # Two endpoints credited with one engine's cache would both be wrong half of the time.
        owners: dict[str, Target] = {}
        for key, target in list(targets.items()):
            if target.address is None:
                continue
            owner = owners.setdefault(target.address, target)
            if owner is not target:
                del targets[key]
                told[key] = (
                    f"{target.pod} would be subscribed to at {target.address}, where {owner.pod} publishes; "
                    f"put {{port}} or {{rank}} into the address template, or give each endpoint its address in the label {EVENTS_LABEL}"
                )


# Slot and incarnation.
_Server = tuple[int, int]


def _server(endpoint: PoolEndpoint) -> _Server:
    return endpoint.slot, endpoint.incarnation


def _engines(endpoint: PoolEndpoint) -> int:
    """How many engines publish for an endpoint; a label that is no such number counts as one."""
    label = endpoint.labels.get(ENGINES_LABEL, "")
    return int(label) if label.isascii() and label.isdigit() and 1 <= int(label[:6]) <= _MOST_ENGINES else 1


def _counted(address: str, number: int) -> str:
    port = address.rpartition(":")[2]
    if not address.startswith("tcp://") or not port.isdigit():
        message = f"label {ENGINES_LABEL}: {address} has no port to count from"
        raise _AddressError(message)
    return f"{address.removesuffix(port)}{_port(int(port) + number, 'the port')}"


class _AddressError(Exception):
    """An endpoint whose address cannot be; the text says why."""


def _port(port: int, parameter: str) -> int:
    if port > HIGHEST_PORT:
        message = f"{parameter} plus the rank is {port}, and the highest port is {HIGHEST_PORT}"
        raise _AddressError(message)
    return port


def _labelled(label: str, value: str, endpoint: PoolEndpoint) -> str:
    # A label in Kubernetes can hold a port, but no colon.
    address = f"tcp://{bracketed(endpoint.address)}:{value}" if value.isascii() and value.isdigit() else value
    if problem := address_problem(address):
        message = f"label {label}: {problem}"
        raise _AddressError(message)
    return address
