"""Recordings of a live gateway: each decision asked again, and the whole of them as a trace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from warmroute.config.errors import UsageError
from warmroute.recording import RecordingError, as_trace, is_recording, report, sampled
from warmroute.replay.policies import NamedPolicy
from warmroute.replay.workloads import FileTrace, trace_of

#: What the configuration of a recording is called in tables.
RECORDED = "recorded"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording as a trace. `replicas`: endpoints that were chosen from; `policy`: the configuration that decided."""

    source: FileTrace
    replicas: int
    policy: NamedPolicy


def recording_at(path: Path) -> bool:
    """Whether a recording lies there. Raises UsageError where it cannot be read."""
    try:
        return path.is_file() and is_recording(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error


def complete(path: Path) -> bool:
    """Whether every decision was recorded, so that they are a trace. Raises UsageError."""
    try:
        return sampled(path) >= 1
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except RecordingError as error:
        raise UsageError(str(error)) from error


def ask_again(console: Console, path: Path, policies: list[NamedPolicy], seed: int) -> None:
    """Print what would have changed under each policy. Raises UsageError."""
    try:
        report(path, {policy.name: policy.settings for policy in policies}, console, seed)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_recorded(path: Path) -> Recorded:
    """The recording as a trace. Raises UsageError where its requests cannot be simulated, and ConfigError where its configuration cannot."""
    try:
        recorded = as_trace(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except RecordingError as error:
        raise UsageError(str(error)) from error
    return Recorded(trace_of(recorded.text, path), recorded.replicas, NamedPolicy(RECORDED, recorded.policy, recorded.notes))
