"""YAML (and so JSON) documents that remember on which line each field stands."""

from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml

from warmroute.config import scalars
from warmroute.config.errors import ConfigError, Problem

# A configuration of a picker is a page; a file of ten thousand endpoints is about a megabyte.
DOCUMENT_BYTES = 1024 * 1024
# Aliases may repeat a node many times; this bounds what they expand to.
_NODES = 500_000
_DEPTH = 64
# The key under which a mapping takes what others have and it has not.
_MERGE = "<<"

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data and the line (from 1) of every path in it."""

    source: str
    data: Any
    lines: dict[Path, int]

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at `path`, on the line of its nearest ancestor that is in the document."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return Problem(self.lines.get(known), render_path(path), message)


def render_path(path: Path) -> str:
    """`plugins[1].type` for ("plugins", 1, "type")."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(path: FilePath, limit: int = DOCUMENT_BYTES) -> Document:
    """Read and parse a file of at most `limit` bytes. Raises ConfigError, also when the file cannot be read."""
    source = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(source, [Problem(None, "", f"cannot be read: {error.strerror}")]) from error
    if len(content) > limit:
        raise ConfigError(source, [Problem(None, "", f"larger than {limit} bytes")])
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(source, [Problem(None, "", f"not UTF-8 (byte {error.start})")]) from error
    return parse_document(text, source)


def parse_document(text: str, source: str) -> Document:
    """Parse one YAML or JSON document. Raises ConfigError with the line of a syntax error."""
    try:
        builder = _Builder(source)
        for event in yaml.parse(text, Loader=_LOADER):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        detail = error.problem or error.context or "unreadable"
        raise ConfigError(source, [Problem(line, "", f"not valid YAML: {detail}")]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(source, [Problem(None, "", f"not valid YAML: {error}")]) from error
    return Document(source, builder.root, builder.lines)


# libyaml where the wheel has it: ten times faster on a file of thousands of endpoints.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class _Open:
    """A collection that is being read."""

    value: dict[str, Any] | list[Any]
    path: Path
    anchor: str | None
    nodes_before: int
    key: str | None = None


class _Builder:
    """Turns parser events into plain data, noting lines; refuses duplicate keys and runaway documents.

    Works on events, not on nodes: composing nodes recurses in C without a limit, and a file of brackets would end the process.
    """

    def __init__(self, source: str) -> None:
        self.root: Any = None
        self.lines: dict[Path, int] = {}
        self._source = source
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._nodes = 0
        self._documents = 0

    def feed(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(event, (), "a second document (---); one is expected")
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._start(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            done = self._open.pop()
            self._merge(event, done)
            if done.anchor is not None:
                self._anchors[done.anchor] = (done.value, self._nodes - done.nodes_before + 1)
            self._attach(done.value)
        elif isinstance(event, yaml.AliasEvent):
            path = self._place(event)
            if event.anchor not in self._anchors:
                raise self._error(event, path, f"unknown alias *{event.anchor}")
            value, nodes = self._anchors[event.anchor]
            self._count(event, path, nodes)
            self._attach(value)

    def _start(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._place(event)
        if event.tag is not None and not scalars.is_collection_tag(event.tag):
            raise self._error(event, path, scalars.unknown_tag(event.tag))
        self._open.append(_Open(value, path, event.anchor, self._nodes))
        if len(self._open) > _DEPTH:
            raise self._error(event, path, f"nested deeper than {_DEPTH} levels")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            if event.value in parent.value:
                raise self._error(event, (*parent.path, event.value), "given twice")
            parent.key = event.value
            self.lines[*parent.path, event.value] = _line(event)
            return
        path = self._place(event)
        if event.tag is None or event.tag == "!":
            value = scalars.plain(event.value) if event.implicit[0] else event.value
        else:
            try:
                value = scalars.tagged(event.tag, event.value)
            except ValueError as error:
                raise self._error(event, path, str(error)) from error
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._attach(value)

    def _place(self, event: yaml.Event) -> Path:
        """The path at which the value that starts here will stand."""
        path: Path = ()
        if self._open:
            parent = self._open[-1]
            if isinstance(parent.value, list):
                path = (*parent.path, len(parent.value))
            elif parent.key is None:
                raise self._error(event, parent.path, "a key must be a plain word")
            else:
                path = (*parent.path, parent.key)
        self._count(event, path, 1)
        self.lines.setdefault(path, _line(event))
        return path

    def _count(self, event: yaml.Event, path: Path, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > _NODES:
            raise self._error(event, path, f"more than {_NODES} values")

    def _attach(self, value: Any) -> None:
        if not self._open:
            self.root = value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is not None:
            parent.value[parent.key] = value
            parent.key = None

    def _merge(self, event: yaml.Event, done: _Open) -> None:
        if not isinstance(done.value, dict) or _MERGE not in done.value:
            return
        merged = done.value.pop(_MERGE)
        for source in merged if isinstance(merged, list) else [merged]:
            if not isinstance(source, dict):
                raise self._error(event, (*done.path, _MERGE), "must be a mapping or a list of mappings")
            for key, value in source.items():
                done.value.setdefault(key, value)

    def _error(self, event: yaml.Event, path: Path, message: str) -> ConfigError:
        return ConfigError(self._source, [Problem(_line(event), render_path(path), message)])


def _line(event: yaml.Event) -> int:
    """Line on which an event starts, from 1; the parser marks every event, its types do not say so."""
    return event.start_mark.line + 1 if event.start_mark is not None else 1
