"""Which model servers the gateway sends to: from the command line or from a file in the reference's file-discovery format."""

import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from warmroute.local.errors import UsageError

#: Largest endpoints file in bytes, as in the reference (endpoint-picker.md §6.5).
MAX_FILE_BYTES = 2**20
_HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model server. `namespace` and `name` identify it; `address` is an IP literal."""

    name: str
    address: str
    port: int
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def host_port(self) -> str:
        """`ip:port`, IPv6 in brackets: how Envoy and the picker name it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What an endpoints file says, and what was skipped in it."""

    endpoints: tuple[Endpoint, ...]
    problems: tuple[str, ...]


def from_addresses(addresses: Iterable[tuple[str, int]], prefix: str) -> tuple[Endpoint, ...]:
    """Endpoints named `prefix-0`, `prefix-1`, … at these addresses."""
    return tuple(Endpoint(f"{prefix}-{index}", address, port) for index, (address, port) in enumerate(addresses))


def from_urls(urls: Sequence[str]) -> tuple[Endpoint, ...]:
    """Endpoints of `--endpoint URL`, names of hosts resolved now; a name with several addresses gives several endpoints.

    Raises:
        UsageError: a URL that is not plain `http://host:port`, a name that does not resolve, or the same server twice.

    """
    found: dict[tuple[str, int], None] = {}
    for url in urls:
        host, port = _host_and_port(url)
        for address in _resolve(host, port, url):
            if (address, port) in found:
                message = f"--endpoint {url}: {address} port {port} is given twice."
                raise UsageError(message)
            found[address, port] = None
    return from_addresses(found, "endpoint")


def read_file(path: Path) -> ParsedFile:
    """Read an endpoints file, YAML or JSON: `endpoints: [{name, namespace, address, port, labels}]`.

    A bad entry is skipped and told in `problems`. IPv6 literals are accepted too (the reference takes IPv4 only).

    Raises:
        UsageError: the file cannot be read, is too large, or is no such document.

    """
    try:
        # One byte more than allowed: a larger file shows without being read whole.
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        message = f"Cannot read the endpoints file {path}: {error.strerror or error}."
        raise UsageError(message) from error
    if len(text) > MAX_FILE_BYTES:
        message = f"The endpoints file {path} is larger than {MAX_FILE_BYTES} bytes."
        raise UsageError(message)
    return parse_document(text, str(path))


def parse_document(text: bytes, source: str) -> ParsedFile:
    """Parse the text of an endpoints file; `source` names it in errors.

    Raises:
        UsageError: the text is no such document.

    """
    import yaml  # noqa: PLC0415 -- costs start-up time, and only files need it

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"The endpoints file {source} is not valid YAML or JSON: {' '.join(str(error).split())}"
        raise UsageError(message) from error
    entries = document.get("endpoints") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        message = f"The endpoints file {source} must have a list `endpoints`: each entry with `name`, `address` (an IP address) and `port`."
        raise UsageError(message)
    endpoints: dict[tuple[str, str], Endpoint] = {}
    addresses: set[str] = set()
    problems = []
    for index, entry in enumerate(entries):
        try:
            endpoint = _from_entry(entry)
            if (endpoint.namespace, endpoint.name) in endpoints:
                message = f"the name {endpoint.namespace}/{endpoint.name} is used twice"
                raise ValueError(message)
            if endpoint.host_port in addresses:
                message = f"the address {endpoint.host_port} is used twice"
                raise ValueError(message)
        except ValueError as error:
            problems.append(f"{source}: endpoints[{index}] is skipped: {error}")
            continue
        endpoints[endpoint.namespace, endpoint.name] = endpoint
        addresses.add(endpoint.host_port)
    return ParsedFile(tuple(endpoints.values()), tuple(problems))


def render_document(endpoints: Iterable[Endpoint]) -> str:
    """Text of an endpoints file (JSON, which is YAML too) that the picker reads."""
    entries = [
        {"name": endpoint.name, "namespace": endpoint.namespace, "address": endpoint.address, "port": str(endpoint.port), "labels": dict(endpoint.labels)}
        for endpoint in endpoints
    ]
    return json.dumps({"endpoints": entries}, indent=1)


def _host_and_port(url: str) -> tuple[str, int]:
    parts, port = _split(url)
    if parts.scheme == "https":
        message = f"--endpoint {url}: https to a model server is not supported; give an http:// address (end TLS in front of the model server)."
        raise UsageError(message)
    if parts.scheme != "http" or not parts.hostname:
        message = f"--endpoint {url}: expected an address such as http://10.0.0.5:8000."
        raise UsageError(message)
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username is not None:
        message = f"--endpoint {url}: only host and port can be given, without a path, a query or a user name: the gateway hands on the path of each request."
        raise UsageError(message)
    return parts.hostname, 80 if port is None else port


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        return parts, _checked_port(parts.port)
    except ValueError as error:
        message = f"--endpoint {url}: {error}."
        raise UsageError(message) from error


def _checked_port(port: int | None) -> int | None:
    if port == 0:
        message = "port 0 cannot be connected to"
        raise ValueError(message)
    return port


def _resolve(host: str, port: int, url: str) -> list[str]:
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"--endpoint {url}: the name {host} does not resolve ({error})."
        raise UsageError(message) from error
    addresses = [str(answer[4][0]) for answer in answers]
    literals = [address for address in dict.fromkeys(addresses) if "%" not in address]
    # `localhost` resolves to both families on many machines while the server listens on one: prefer IPv4 there.
    return [address for address in literals if ":" not in address] or literals


def _from_entry(entry: object) -> Endpoint:
    if not isinstance(entry, dict):
        message = "it is no mapping"
        raise ValueError(message)  # noqa: TRY004 -- all problems of an entry are told alike
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        message = "`name` is missing"
        raise ValueError(message)
    namespace = entry.get("namespace") or "default"
    address = entry.get("address")
    try:
        literal = ipaddress.ip_address(address if isinstance(address, str) else "")
    except ValueError:
        message = f"`address` must be an IP address, not {address!r}"
        raise ValueError(message) from None
    port = str(entry.get("port"))
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
        message = f"`port` must be a number between 1 and {_HIGHEST_PORT}, not {entry.get('port')!r}"
        raise ValueError(message)
    labels = entry.get("labels") or {}
    if not isinstance(namespace, str) or not isinstance(labels, dict):
        message = "`namespace` must be a text and `labels` a mapping"
        raise ValueError(message)
    return Endpoint(name, str(literal), int(port), namespace, {str(key): str(value) for key, value in labels.items()})
