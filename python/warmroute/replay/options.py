"""What the command line's options mean: lists of numbers, parameters, and the conditions of a comparison."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from warmroute.config.errors import UsageError
from warmroute.policies import DEFAULT
from warmroute.replay import claim, plots, recorded
from warmroute.replay.hardware import Pool, mixed_speeds
from warmroute.replay.policies import NamedPolicy, load_policies
from warmroute.replay.run import Conditions
from warmroute.replay.workloads import Workload, find_recorded, find_workload, generated, read_trace

#: Shares of the capacity, and policies, where nothing else is asked for; those are compared with the first.
LOADS = (0.5, 0.8, 0.95)
POLICIES = ("round-robin", "reference", "marginal-latency")
#: When the gateway learns of a first token; see `warmroute._core.simulate`.
SIGNALS = ("first_token", "counters", "ends")
_MOST_SEEDS = 1000
# What the simulator takes.
_LONGEST_WARM_UP = 0.9
_SCRAPES = (1e-3, 1e6)


@dataclass(slots=True, kw_only=True)
class Asked:
    """What the command line says. None: nothing. `more`: traces after the first."""

    trace: str | None
    more: list[str] = field(default_factory=list)
    policy: list[str] = field(default_factory=list)
    replicas: int | None = None
    preset: str | None = None
    mixed: bool = False
    replica_speeds: str | None = None
    num_gpu_blocks: int | None = None
    block_size: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_loras: int = 4
    requests: int | None = None
    repeat: int | None = None
    parameter: list[str] = field(default_factory=list)
    signals: str = "first_token"
    scrape_seconds: float = 0.05
    warm_up: float = 0.15
    allow_experimental: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How much traffic, as the command line says it. `claim`: as the published claim has it, where nothing else is said."""

    load: str | None = None
    rate: str | None = None
    capacity: float | None = None
    seeds: str = "1"
    claim: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """Where results go beside the tables. `csv`: `-` is stdout; `learnt`: a table of what was learnt as well."""

    csv: Path | None = None
    plot: Path | None = None
    learnt: bool = False

    @property
    def csv_on_stdout(self) -> bool:
        """Numbers for a program then stand alone there."""
        return self.csv == Path("-")

    def check(self) -> None:
        """Whether there is room for it, before anything is simulated. Raises UsageError."""
        if self.plot is not None:
            plots.need_matplotlib()
            plots.make_folder(self.plot)
        if self.csv is None or self.csv_on_stdout:
            return
        folder = self.csv.parent
        if self.csv.is_dir() or not folder.is_dir() or not os.access(self.csv if self.csv.exists() else folder, os.W_OK):
            raise UsageError(f"--csv {self.csv}: cannot be written; name a file in a folder that exists")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared. `recorded`: the requests have times of their own, which count where no load is asked for."""

    name: str
    conditions: Conditions
    policies: list[NamedPolicy]
    recorded: bool


def numbers(text: str, option: str) -> tuple[float, ...]:
    """`0.5,0.8`: numbers above 0. Raises UsageError that names the option."""
    values = []
    for part in text.split(","):
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option} {text}: {part.strip() or 'nothing'} is no number above 0; write 0.5,0.8")
        values.append(value)
    return tuple(dict.fromkeys(values))


def seeds(text: str) -> tuple[int, ...]:
    """`1,2,3` or `1-5`. Raises UsageError."""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UsageError(f"--seeds {text}: {part.strip() or 'nothing'} is no seed; write 1,2,3 or 1-3")
        last = int(high) if dash else int(low)
        if last - int(low) >= _MOST_SEEDS or last < int(low):
            raise UsageError(f"--seeds {text}: between 1 and {_MOST_SEEDS} seeds, the lower first")
        found.extend(range(int(low), last + 1))
    return tuple(dict.fromkeys(found))


def comparison(asked: Asked) -> Comparison:
    """Policies first: they are checked at once, a trace may take a while to read. Raises UsageError and ConfigError."""
    if asked.trace is None:
        raise UsageError("name a trace: a Mooncake-format or recorded file, or a workload (`warmroute replay --list`)")
    _check_ranges(asked)
    policies = policies_asked(asked)
    path = Path(asked.trace)
    if recorded.recording_at(path):
        return _of_recording(asked, path, policies)
    looks_like_file = path.is_file() or path.suffix in {".jsonl", ".json"} or path.name != asked.trace
    workload = Workload(path.name, "", file=asked.trace) if looks_like_file else find_workload(asked.trace)
    pool = _pool(asked, workload)
    parameters = _parameters(asked)
    if workload.family is not None:
        if asked.requests is not None:
            parameters["requests"] = asked.requests
        conditions = _conditions(asked, generated(workload, parameters), pool, None)
        return Comparison(workload.name, conditions, policies, recorded=False)
    if parameters:
        raise UsageError(f"--parameter: {asked.trace} is read from a file; only generated workloads have parameters")
    source = read_trace(path if looks_like_file else find_recorded(workload))
    return Comparison(workload.name, _conditions(asked, source, pool, asked.requests), policies, recorded=looks_like_file)


def comparisons(asked: Asked) -> list[Comparison]:
    """One a trace, the same policies in each. Raises UsageError and ConfigError."""
    if not asked.more:
        return [comparison(asked)]
    traces = [asked.trace or "", *asked.more]
    for trace in traces:
        if recorded.recording_at(Path(trace)):
            raise UsageError(f"{trace} is a recording, which brings a policy of its own; replay it alone")
    found = [comparison(replace(asked, trace=trace)) for trace in traces]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name}: named twice among the traces")
    return found


def policies_asked(asked: Asked) -> list[NamedPolicy]:
    """Those that are named; of a recording, the default policy beside its own, of anything else `POLICIES`. Raises UsageError and ConfigError."""
    of_recording = asked.trace is not None and recorded.recording_at(Path(asked.trace))
    default = [DEFAULT] if of_recording else list(POLICIES)
    return load_policies(asked.policy or default, allow_experimental=asked.allow_experimental)


def _of_recording(asked: Asked, path: Path, policies: list[NamedPolicy]) -> Comparison:
    if asked.parameter:
        raise UsageError(f"--parameter: {path} is a recording; only generated workloads have parameters")
    found = recorded.read_recorded(path)
    pool = _pool(asked, Workload(path.name, "", found.replicas))
    conditions = _conditions(asked, found.source, pool, asked.requests)
    return Comparison(path.name, conditions, [found.policy, *policies], recorded=True)


def claim_asked(asked: Asked) -> Asked:
    """What `--claim` compares where nothing else is said."""
    asked.trace = asked.trace or claim.WORKLOAD
    asked.replicas = asked.replicas or (None if asked.replica_speeds else claim.REPLICAS)
    asked.policy = asked.policy or list(claim.POLICIES)
    return asked


def _conditions(asked: Asked, source: Any, pool: Pool, limit: int | None) -> Conditions:
    # Whoever says how many requests there are means so many.
    repeat = 1 if asked.repeat is None and asked.requests is not None else asked.repeat
    return Conditions(source, pool, limit, repeat, asked.scrape_seconds, asked.signals, asked.warm_up)


def _check_ranges(asked: Asked) -> None:
    for option, value in (("--requests", asked.requests), ("--repeat", asked.repeat), ("--max-num-seqs", asked.max_num_seqs)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: at least 1")
    if asked.signals not in SIGNALS:
        raise UsageError(f"--signals {asked.signals}: one of {', '.join(SIGNALS)}")
    if not 0 <= asked.warm_up <= _LONGEST_WARM_UP:
        raise UsageError(f"--warm-up {asked.warm_up:g}: from 0 to {_LONGEST_WARM_UP:g}, a share of the requests")
    if asked.scrape_seconds and not _SCRAPES[0] <= asked.scrape_seconds <= _SCRAPES[1]:
        raise UsageError(f"--scrape-seconds {asked.scrape_seconds:g}: 0 (only once, at the start), or from {_SCRAPES[0]:g} to {_SCRAPES[1]:g}")


def _pool(asked: Asked, workload: Workload) -> Pool:
    if asked.replica_speeds is not None:
        speeds = _speeds(asked.replica_speeds)
        if asked.mixed or asked.replicas not in {None, len(speeds)}:
            raise UsageError(f"--replica-speeds names {len(speeds)} replicas: leave --mixed and --replicas out")
    else:
        count = workload.replicas if asked.replicas is None else asked.replicas
        speeds = mixed_speeds(count) if asked.mixed or workload.mixed else (1.0,) * count
    return Pool(
        asked.preset or workload.preset,
        speeds,
        asked.num_gpu_blocks,
        asked.block_size,
        asked.max_num_seqs,
        asked.max_num_batched_tokens,
        asked.max_loras,
    )


def _speeds(text: str) -> tuple[float, ...]:
    # Equal speeds are several replicas, so each part is read by itself.
    return tuple(numbers(part, "--replica-speeds")[0] for part in text.split(","))


def _parameters(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in asked.parameter:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--parameter {text}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
