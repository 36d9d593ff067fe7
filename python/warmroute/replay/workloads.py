"""Workloads by name: a trace and the pool that it is meant for, as the policy study's section 2 has them."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmroute import _core
from warmroute.config.errors import UsageError, nearest

#: Where Mooncake's traces lie, if not in the current folder.
TRACES_VARIABLE = "WARMROUTE_TRACES"
CONVERSATION, SYNTHETIC = "conversation_trace.jsonl", "synthetic_trace.jsonl"
_MOONCAKE = "https://github.com/kvcache-ai/Mooncake, FAST25-release/traces"
_LARGEST_TRACE_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Workload:
    """`family` (a generator) or `file` (a recorded trace), and the pool by default. `parameters`: of the generator, where they differ from its own."""

    name: str
    text: str
    replicas: int = 8
    family: str | None = None
    file: str | None = None
    preset: str = "h100-8b"
    mixed: bool = False
    parameters: tuple[tuple[str, Any], ...] = ()


_LIST = (
    Workload("conv8", "Mooncake's conversation trace: long chats, much of each prompt seen before", file=CONVERSATION),
    Workload("conv32", "the same on 32 replicas", 32, file=CONVERSATION),
    Workload("synth8", "Mooncake's synthetic trace: long shared documents", file=SYNTHETIC),
    Workload("synth32", "the same on 32 replicas", 32, file=SYNTHETIC),
    Workload("shared8", "150 groups of 5 prompts, 6,000 tokens shared + 1,200 own, 1,000 out", family="shared-prefix"),
    Workload("zipf8", "150 groups by Zipf's law, 6,000 shared + ~400 own, ~250 out", family="zipf"),
    Workload("few16", "4 groups on 16 replicas, 6,000 shared + ~1,200 own, ~300 out", 16, family="few-groups"),
    Workload("rand8", "no reuse, ~220 in, ~180 out", family="no-reuse"),
    Workload("chat8", "sessions of ~6 turns over 8 system prompts", family="chat"),
    Workload("agent8", "sessions of ~20 turns that grow by 1,200 tokens each from 14,000", family="agent"),
    Workload("skew8", "no reuse, 90 % of prompts 500 tokens, 10 % 60,000", family="skewed"),
    Workload("lora8", "LoRA adapters by Zipf's law", family="lora-mix"),
    Workload("sharegpt8", "lengths as in ShareGPT, no reuse", family="sharegpt"),
    Workload("het-rand8", "rand8, every second replica half as fast", family="no-reuse", mixed=True),
    Workload("het-conv8", "conv8, every second replica half as fast", file=CONVERSATION, mixed=True),
    Workload("het-shared8", "shared8, every second replica half as fast", family="shared-prefix", mixed=True),
    Workload("70b-conv8", "conv8 on 70B replicas", file=CONVERSATION, preset="h100-70b"),
    Workload("70b-shared8", "shared8 on 70B replicas", family="shared-prefix", preset="h100-70b"),
)
#: Those of the policy study, section 2: what `--suite` compares.
SUITE = tuple(workload.name for workload in _LIST if workload.family not in {"lora-mix", "sharegpt"})
#: By name; a generator's own name is a workload on eight replicas as well.
WORKLOADS: Mapping[str, Workload] = {
    **{workload.name: workload for workload in _LIST},
    **{
        family: Workload(family, "the generator by its own name", family=family)
        for family in dict.fromkeys(workload.family for workload in _LIST)
        if family is not None
    },
}


@dataclass(frozen=True, slots=True)
class FileTrace:
    """A trace that was read; the same for every seed. `digest`: of its text."""

    trace: _core.Trace
    digest: str

    def of(self, seed: int) -> _core.Trace:  # noqa: ARG002 - the signature of every source of traces
        """The trace."""
        return self.trace

    @property
    def notices(self) -> tuple[str, ...]:
        """What of the file is not in the trace as it was."""
        found = []
        if self.trace.dropped:
            found.append(f"{self.trace.dropped:,} requests with an empty prompt or answer were left out")
        if self.trace.unknown_outputs:
            found.append(f"{self.trace.unknown_outputs:,} answers of unknown length count as long as the mean of the others")
        return tuple(found)


class GeneratedTrace:
    """A trace that is made anew for each seed, and kept while it is compared."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings`: what the generator is told, its workload among it."""
        self._settings = json.dumps(settings, sort_keys=True)
        self._traces: dict[int, _core.Trace] = {}
        self._lock = threading.Lock()
        self.digest = self._settings
        self.notices: tuple[str, ...] = ()

    def of(self, seed: int) -> _core.Trace:
        """The trace of a seed. Raises UsageError for a parameter that the generator refuses."""
        with self._lock:
            if seed not in self._traces:
                try:
                    self._traces[seed] = _core.Trace.generate(self._settings, seed)
                except ValueError as error:
                    raise UsageError(f"the workload cannot be made: {error}") from error
            return self._traces[seed]


TraceSource = FileTrace | GeneratedTrace


def find_workload(name: str) -> Workload:
    """The workload of that name. Raises UsageError with the nearest one."""
    workload = WORKLOADS.get(name)
    if workload is None:
        raise UsageError(f"no trace file and no workload {name!r}{nearest(name, WORKLOADS)}; `warmroute replay --list` has the workloads")
    return workload


def read_trace(path: Path) -> FileTrace:
    """Read a Mooncake-format file. Raises UsageError: no such file, not readable, a line that is wrong, or nothing in it."""
    try:
        if path.stat().st_size > _LARGEST_TRACE_BYTES:
            raise UsageError(f"{path}: larger than {_LARGEST_TRACE_BYTES >> 30} GiB; cut it into parts")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: no UTF-8 text at byte {error.start}; a trace is JSON lines (unpack it first)") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    return trace_of(text, path)


def trace_of(text: str, path: Path) -> FileTrace:
    """The trace in a text that came from `path`. Raises UsageError: a line that is wrong, or nothing in it."""
    try:
        trace = _core.Trace.read(text, str(path))
    except ValueError as error:
        # It begins with the name.
        raise UsageError(str(error)) from error
    if not trace.requests:
        raise UsageError(f"{path}: no requests in it")
    return FileTrace(trace, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def find_recorded(workload: Workload) -> Path:
    """The file of a workload that is a recorded trace. Raises UsageError that says where to get it."""
    name = workload.file or ""
    folder = os.environ.get(TRACES_VARIABLE)
    path = Path(folder or ".") / name
    if path.is_file():
        return path
    place = f"{TRACES_VARIABLE}={folder}" if folder else "the current folder"
    raise UsageError(f"workload {workload.name}: {name} is not in {place}; get it from {_MOONCAKE} and name its folder in {TRACES_VARIABLE}")


def generated(workload: Workload, parameters: Mapping[str, Any]) -> GeneratedTrace:
    """The generator of a workload with these parameters over its own."""
    return GeneratedTrace({"workload": workload.family, **dict(workload.parameters), **parameters})
