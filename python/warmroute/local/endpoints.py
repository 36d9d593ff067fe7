"""Which model servers the gateway sends to; read as the picker itself reads them, so that one file means one thing."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from warmroute.config.errors import ConfigError
from warmroute.config.errors import UsageError as FlagError
from warmroute.discovery.endpoints import EndpointRecord
from warmroute.discovery.static import static_endpoints
from warmroute.local.errors import UsageError

_NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What an endpoints file says, and what was skipped in it."""

    endpoints: tuple[EndpointRecord, ...]
    problems: tuple[str, ...]


def host_port(endpoint: EndpointRecord) -> str:
    """`ip:port`, IPv6 in brackets: how Envoy and the picker name it."""
    return f"[{endpoint.address}]:{endpoint.port}" if ":" in endpoint.address else f"{endpoint.address}:{endpoint.port}"


def from_addresses(addresses: Iterable[tuple[str, int]], prefix: str) -> tuple[EndpointRecord, ...]:
    """Endpoints named `prefix-0`, `prefix-1`, … at these addresses."""
    return tuple(EndpointRecord(_NAMESPACE, f"{prefix}-{index}", address, port) for index, (address, port) in enumerate(addresses))


def from_urls(urls: Sequence[str]) -> tuple[EndpointRecord, ...]:
    """Endpoints of `--endpoint URL`; names of hosts are resolved now.

    Raises:
        UsageError: a URL that is not plain `http://host:port`, a name that does not resolve, or the same server twice.

    """
    try:
        return tuple(static_endpoints(urls, _NAMESPACE))
    except FlagError as error:
        raise UsageError(str(error)) from error


def read_file(path: Path) -> ParsedFile:
    """Read an endpoints file, YAML or JSON: `endpoints: [{name, namespace, address, port, labels}]`.

    A bad entry is skipped and told in `problems`.

    Raises:
        UsageError: the file cannot be read, is too large, or is no such document.

    """
    from warmroute.discovery.file import load_endpoints  # noqa: PLC0415 -- costs start-up time, and only files need it

    try:
        endpoints, problems = load_endpoints(path)
    except ConfigError as error:
        message = f"The endpoints file cannot be used: {error}"
        raise UsageError(message) from error
    return ParsedFile(tuple(endpoints), tuple(f"An endpoint is skipped: {ConfigError(str(path), [problem])}" for problem in problems))


def render_document(endpoints: Iterable[EndpointRecord]) -> str:
    """Text of an endpoints file (JSON, which is YAML too) that the picker reads."""
    entries = [
        {
            "name": endpoint.name,
            "namespace": endpoint.namespace,
            "address": endpoint.address,
            "port": str(endpoint.port),
            "labels": dict(endpoint.labels),
        }
        for endpoint in endpoints
    ]
    return json.dumps({"endpoints": entries}, indent=1)
