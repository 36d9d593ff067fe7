"""Endpoints from a file, watched for changes: the reference's file-discovery format.

    endpoints: [{name, namespace ("default"), address, port ("8000" or 8000), labels}]

IPv6 literals are accepted beside the reference's IPv4 ones. A bad entry is skipped with an error in the log; a bad file is fatal at the start
and keeps the old set afterwards.
"""

import ipaddress
import logging
from pathlib import Path
from typing import Any

from warmroute.config.document import read_document
from warmroute.config.errors import ConfigError, Problem
from warmroute.discovery.endpoints import EndpointRecord, EndpointSink
from warmroute.host.watch import FileWatcher
from warmroute.logging import fields

logger = logging.getLogger(__name__)

# The largest file accepted, as the reference's.
FILE_BYTES = 1024 * 1024
_HIGHEST_PORT = 65535
# A change is applied once no event has come for this long, or at the latest after that much.
_QUIET_MS, _LONGEST_MS = 25, 200
_ENTRY_FIELDS = frozenset({"name", "namespace", "address", "port", "labels"})


def load_endpoints(path: Path) -> tuple[list[EndpointRecord], list[Problem]]:
    """The good entries of a file and what is wrong with the others. Raises ConfigError when the file as a whole cannot be used."""
    document = read_document(path, FILE_BYTES)
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("endpoints"), list):
        raise ConfigError(document.source, [document.problem((), "expected a mapping with a list `endpoints`")])
    unknown = [name for name in data if name != "endpoints"]
    if unknown:
        raise ConfigError(document.source, [document.problem((unknown[0],), f'unknown field "{unknown[0]}"')])
    records: dict[tuple[str, str], EndpointRecord] = {}
    addresses: dict[tuple[str, int], str] = {}
    problems: list[Problem] = []
    for index, entry in enumerate(data["endpoints"]):
        try:
            record = _record(entry)
            _check_twice(record, records, addresses)
        except _EntryError as error:
            path_of = ("endpoints", index, error.field) if error.field else ("endpoints", index)
            problems.append(document.problem(path_of, error.message))
            continue
        records[record.key] = record
        addresses[record.address, record.port] = record.name
    return list(records.values()), problems


class _EntryError(Exception):
    """One entry that cannot be used."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(field, message)


def _record(entry: Any) -> EndpointRecord:
    if not isinstance(entry, dict):
        raise _EntryError("", "expected a mapping with name, address and port")
    unknown = [name for name in entry if name not in _ENTRY_FIELDS]
    if unknown:
        raise _EntryError(unknown[0], f'unknown field "{unknown[0]}"')
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise _EntryError("name", "required, a text")
    namespace = entry.get("namespace") or "default"
    if not isinstance(namespace, str):
        raise _EntryError("namespace", f"must be a text, not {namespace!r}")
    labels = entry.get("labels") or {}
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise _EntryError("labels", "must be a mapping from text to text")
    return EndpointRecord(namespace, name, _address(entry.get("address")), _port(entry.get("port")), labels)


def _check_twice(record: EndpointRecord, records: dict[tuple[str, str], EndpointRecord], addresses: dict[tuple[str, int], str]) -> None:
    if record.key in records:
        raise _EntryError("name", f'"{record.name}" is listed twice')
    other = addresses.get((record.address, record.port))
    if other is not None:
        raise _EntryError("address", f'the same address and port as "{other}"')


def _address(value: object) -> str:
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise _EntryError("address", f"must be an IP address (host names are not resolved), not {value!r}") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise _EntryError("address", "an IPv6 address with a zone cannot be routed to")
    return str(address)


def _port(value: object) -> int:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= _HIGHEST_PORT:
        raise _EntryError("port", f"must be a port from 1 to {_HIGHEST_PORT}, not {value!r}")
    return int(text)


class FileDiscovery:
    """Loads the file once at the start, then follows it."""

    def __init__(self, path: Path, sink: EndpointSink) -> None:
        """Nothing is read before `load`."""
        self._path = path
        self._sink = sink
        self._watcher = FileWatcher([path], _QUIET_MS, _LONGEST_MS)
        self._read: tuple[list[EndpointRecord], list[Problem]] = ([], [])
        self._applied: tuple[list[EndpointRecord], list[Problem]] | None = None

    def load(self) -> None:
        """Read the file into the sink. Raises ConfigError: a picker does not start on a file it cannot read."""
        self.read()
        self.apply()

    def read(self) -> None:
        """Read the file and leave the sink as it is. Raises ConfigError."""
        self._read = load_endpoints(self._path)

    def apply(self) -> None:
        """What was read last into the sink."""
        self._apply(self._read)

    async def watch(self) -> None:
        """Follow the file until cancelled; also through the symbolic links by which Kubernetes swaps mounted files."""
        async for _ in self._watcher.changes():
            self.reload()

    def reload(self) -> None:
        """Read the file again; one that cannot be used is logged and the old set stays."""
        try:
            loaded = load_endpoints(self._path)
        except ConfigError as error:
            details = fields(file=str(self._path), error=str(error))
            logger.error("endpoints file cannot be used; keeping the endpoints that it held before", extra=details)  # noqa: TRY400 - the trace tells nothing
            return
        if loaded != self._applied:
            self._apply(loaded)

    def _apply(self, loaded: tuple[list[EndpointRecord], list[Problem]]) -> None:
        records, problems = loaded
        for problem in problems:
            details = fields(file=str(self._path), line=problem.line, field=problem.field, error=problem.message)
            logger.error("endpoint skipped", extra=details)
        self._sink.replace(records)
        self._applied = loaded
