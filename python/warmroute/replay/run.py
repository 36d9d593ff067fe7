"""Simulations side by side: policies x loads x seeds on threads (the engine runs without the interpreter's lock)."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from warmroute import _core
from warmroute.config.errors import UsageError
from warmroute.replay.hardware import Pool
from warmroute.replay.policies import NamedPolicy
from warmroute.replay.workloads import TraceSource

#: What arrives within less time than this is over before a queue can grow.
SECONDS = 60.0
#: Of conversations, as many times their mean length: for three of them the simulator lets the pool fill, as one that has served for long is.
SESSIONS = 4.0
# How often the bar is drawn and Ctrl-C is heeded.
_TICK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Level:
    """How much traffic. `load`: share of the capacity, where it was given so. `rate`: requests/s; None: as recorded."""

    rate: float | None = None
    load: float | None = None

    @property
    def words(self) -> str:
        """For titles."""
        if self.rate is None:
            return "as recorded"
        return f"{self.rate:.4g} requests/s" + (f" ({self.load:.0%} of capacity)" if self.load is not None else "")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What every run of a comparison shares. `limit`: only the first requests of the trace.

    `repeat`: the trace so often; None: so often that the requests come for long enough, where their rate is told.
    """

    source: TraceSource
    pool: Pool
    limit: int | None = None
    repeat: int | None = None
    scrape_seconds: float = 0.05
    signals: str = "first_token"
    warm_up: float = 0.15

    def settings(self, level: Level, seed: int, *, details: bool = False) -> str:
        """Settings of `warmroute._core.simulate` as JSON."""
        return json.dumps(
            {
                "replicas": self.pool.hardware(),
                "rate": level.rate,
                "limit": self.limit,
                "repeat": self.repetitions(level, seed),
                "seed": seed,
                "scrape_seconds": self.scrape_seconds,
                "signals": self.signals,
                "warm_up": self.warm_up,
                "details": details,
            }
        )

    def repetitions(self, level: Level, seed: int) -> int:
        """How often the trace is gone through."""
        if self.repeat is not None or level.rate is None:
            return self.repeat or 1
        seconds = max(SECONDS, SESSIONS * self.source.of(seed).session_seconds)
        return max(1, math.ceil(seconds * level.rate / self._once(seed)))

    def requests(self, level: Level, seed: int) -> int:
        """Requests that a run simulates."""
        return self._once(seed) * self.repetitions(level, seed)

    def _once(self, seed: int) -> int:
        requests: int = self.source.of(seed).requests
        return requests if self.limit is None else min(requests, self.limit)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run."""

    policy: str
    level: Level
    seed: int
    result: Mapping[str, Any]


@dataclass(slots=True)
class _Run:
    policy: NamedPolicy
    level: Level
    seed: int
    progress: _core.Progress


class Bar:
    """A progress bar on stderr; nothing where that is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        """`console`: where to draw."""
        self._console = console or Console(file=sys.stderr)
        self._bar: Progress | None = None

    @contextlib.contextmanager
    def shown(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Draw while the context lasts; what it gives takes the number of requests done."""
        if not self._console.is_terminal:
            yield lambda done: None  # noqa: ARG005 - nobody looks
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(description, total=total)
            yield lambda done: progress.update(task, completed=done)


def simulate(conditions: Conditions, policy: NamedPolicy, level: Level, seed: int, progress: _core.Progress | None = None) -> Mapping[str, Any]:
    """One run. Raises UsageError for what the simulator refuses."""
    try:
        return _core.simulate(conditions.source.of(seed), conditions.settings(level, seed), policy.settings, progress)
    except ValueError as error:
        raise UsageError(f"policy {policy.name}, {level.words}: {error}") from error


def run_all(
    conditions: Conditions, policies: Sequence[NamedPolicy], levels: Sequence[Level], seeds: Sequence[int], *, jobs: int, bar: Bar, title: str = ""
) -> list[Outcome]:
    """Every policy at every level with every seed, in that order whichever ends first. Ctrl-C cancels what runs."""
    runs = [_Run(policy, level, seed, _core.Progress()) for level in levels for policy in policies for seed in seeds]
    return [
        Outcome(run.policy.name, run.level, run.seed, result)
        for run, result in zip(runs, _results(conditions, runs, jobs, bar, title or "simulating"), strict=True)
    ]


def _results(conditions: Conditions, runs: Sequence[_Run], jobs: int, bar: Bar, title: str) -> list[Mapping[str, Any]]:
    # Made here: a workload that cannot be made is told before threads start.
    total = sum(conditions.requests(run.level, run.seed) for run in runs)
    stopped = threading.Event()

    def one(run: _Run) -> Mapping[str, Any]:
        return {} if stopped.is_set() else simulate(conditions, run.policy, run.level, run.seed, run.progress)

    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(runs)))) as threads:
        try:
            futures: list[Future[Mapping[str, Any]]] = [threads.submit(one, run) for run in runs]
            with bar.shown(title, total) as show:
                waiting = set(futures)
                while waiting:
                    finished, waiting = wait(waiting, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
                    for future in finished:
                        future.result()
                    show(sum(run.progress.done for run in runs))
        except BaseException:
            # Without this the context would wait for everything that is queued and runs.
            stopped.set()
            for run in runs:
                run.progress.cancel()
            raise
    return [future.result() for future in futures]
