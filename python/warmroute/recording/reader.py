"""Reads a recording: its header, its configurations, and its lines in pieces."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

_HEADER_START = b'{"warmroute_recording":'
#: Longest line that is read: of a body of 64 MiB no more blocks can come.
_LINE_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 4 * 1024 * 1024
_VERSION = 1
_JOINED = "another recording begins here; several in one file cannot be read: give each its own"


class RecordingError(ValueError):
    """A file that is no recording, or a broken one; the message says where."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recording says beside its decisions."""

    path: Path
    #: Seconds since the epoch.
    started: float
    #: Share of the decisions that are in it.
    sample: float
    #: The effective configuration at the start, YAML.
    policy: str
    #: Endpoints by their numbers: name, namespace, address, labels.
    endpoints: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: Configurations that came into force later: milliseconds since the start, YAML.
    later_policies: list[tuple[float, str]] = field(default_factory=list)
    decisions: int = 0
    #: Some tell what endpoints had of the prompt.
    matched: bool = False
    #: Why it ended, decisions written and lost; None: it was not ended (the picker was killed, or still writes).
    end: dict[str, Any] | None = None


def is_recording(path: Path) -> bool:
    """Whether the file begins as a recording does. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(_HEADER_START)) == _HEADER_START


def pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines. What follows the last line break was not finished and is left out. Raises OSError and RecordingError."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            end = piece.rfind(b"\n") + 1
            if end:
                yield rest + piece[:end]
                rest = piece[end:]
            else:
                rest += piece
            if len(rest) > _LINE_BYTES:
                message = f"{path}: a line is longer than {_LINE_BYTES} bytes; this is no recording"
                raise RecordingError(message)


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and content of each line. Raises OSError and RecordingError."""
    number = 0
    for piece in pieces(path):
        for text in piece.splitlines():
            number += 1
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except ValueError as error:
                message = f"{path}:{number}: {_JOINED if _HEADER_START in text else f'no JSON: {error}'}"
                raise RecordingError(message) from error
            if not isinstance(line, dict):
                message = f"{path}:{number}: expected an object"
                raise RecordingError(message)
            yield number, line


def sampled(path: Path) -> float:
    """Share of the decisions that is in the file, by its first line. Raises OSError and RecordingError."""
    for _, line in lines(path):
        return _header(path, line).sample
    raise _no_line(path)


def read_recording(path: Path, decided: Callable[[dict[str, Any]], None] | None = None) -> Recording:
    """Read all but the decisions, each of which is given to `decided`. Raises OSError and RecordingError, and what `decided` raises."""
    recording: Recording | None = None
    decisions, matched, end = 0, False, None
    for number, line in lines(path):
        if recording is None:
            recording = _header(path, line)
        elif "warmroute_recording" in line:
            # Its endpoints and blocks have numbers of their own, and its time begins anew.
            message = f"{path}:{number}: {_JOINED}"
            raise RecordingError(message)
        elif "policy" in line:
            recording.later_policies.append(_later(path, number, line))
        for endpoint in line.get("endpoints", ()):
            try:
                recording.endpoints[endpoint["index"]] = endpoint
            except (TypeError, KeyError) as error:
                message = f"{path}:{number}: an endpoint without a number"
                raise RecordingError(message) from error
        if "candidates" in line:
            decisions += 1
            if decided is not None:
                decided(line)
        matched = matched or "prefixes" in line
        end = line if "warmroute_recording_end" in line else end
    if recording is None:
        raise _no_line(path)
    return replace(recording, decisions=decisions, matched=matched, end=end)


def _no_line(path: Path) -> RecordingError:
    if path.stat().st_size:
        return RecordingError(f"{path}: the first line has no end: the picker was killed while it wrote it, and nothing was recorded")
    return RecordingError(f"{path}: the file is empty; record with `--record-decisions FILE` of `warmroute up` or `warmroute epp`")


def _later(path: Path, number: int, line: dict[str, Any]) -> tuple[float, str]:
    try:
        return float(line["from_ms"]), str(line["policy"])
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}:{number}: a configuration without its time: {error}"
        raise RecordingError(message) from error


def _header(path: Path, line: dict[str, Any]) -> Recording:
    version = line.get("warmroute_recording")
    if version != _VERSION:
        said = "it is no recording" if version is None else f"it has version {version} of the format, this warmroute reads version {_VERSION}"
        message = f"{path}:1: {said}"
        raise RecordingError(message)
    try:
        return Recording(path, float(line["started"]), float(line["sample"]), str(line["policy"]))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}:1: the header is not complete: {error}"
        raise RecordingError(message) from error
