"""What `warmroute replay` does, once its options are read."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from warmroute.config.errors import UsageError
from warmroute.replay import capacity, claim, options, plots, recorded
from warmroute.replay import self_check as checks
from warmroute.replay.constants import footer
from warmroute.replay.csv_file import Results, as_csv
from warmroute.replay.learnt import print_learnt
from warmroute.replay.options import Asked, Comparison, Output, Traffic
from warmroute.replay.ranking import print_ranking
from warmroute.replay.run import Bar, Level, Outcome, run_all
from warmroute.replay.table import print_tables
from warmroute.replay.workloads import WORKLOADS


def compare(console: Console, asked: Asked, traffic: Traffic, output: Output, jobs: int) -> None:
    """Simulate each trace, print tables, write files; over several traces a ranking. Raises UsageError and ConfigError."""
    output.check()
    if output.csv_on_stdout:
        console.file = sys.stderr
    seeds = options.seeds(traffic.seeds)
    if traffic.claim:
        asked = options.claim_asked(asked)
    if asked.trace is not None and recorded.recording_at(Path(asked.trace)):
        policies = options.policies_asked(asked)
        recorded.ask_again(console, Path(asked.trace), policies, seeds[0])
        if not recorded.complete(Path(asked.trace)):
            console.print("The pool is not simulated: that needs every request, recorded with --record-sample 1.", style="yellow")
            return
    # All of them are read before the first is simulated: what is wrong with the last one is told now, not in an hour.
    comparisons = options.comparisons(asked)
    _warn(comparisons)
    bar = Bar()
    words = f"seed {seeds[0]}" if len(seeds) == 1 else f"medians over seeds {traffic.seeds}"
    done: dict[str, list[Outcome]] = {}
    tables: list[Results] = []
    while comparisons:
        # Taken out, so that a trace's memory is given back when it has been simulated.
        comparison = comparisons.pop(0)
        wanted = levels(console, comparison, traffic, seeds[0], jobs, bar=bar)
        outcomes = run_all(comparison.conditions, comparison.policies, wanted, seeds, jobs=jobs, bar=bar)
        title = f"{comparison.name} on {comparison.conditions.pool.words}"
        print_tables(console, outcomes, title=title, seeds=words)
        if traffic.claim:
            claim.print_verdict(console, outcomes)
        if output.learnt:
            print_learnt(console, outcomes)
        console.print(footer(comparison.conditions.pool), style="dim")
        done[comparison.name] = outcomes
        tables.append(Results(comparison.name, comparison.conditions.pool.words, outcomes))
        _write(console, tables, output, f"{title}, {words}", subfolder=comparison.name if asked.more else None)
    if asked.more:
        print_ranking(console, done)
    if output.csv_on_stdout:
        sys.stdout.write(as_csv(tables))


def _warn(comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        for notice in comparison.conditions.source.notices:
            sys.stderr.write(f"warning: {comparison.name}: {notice}\n")
    for policy in comparisons[0].policies:
        for notice in policy.notices:
            sys.stderr.write(f"warning: policy {policy.name}: {notice}\n")


def levels(console: Console, comparison: Comparison, traffic: Traffic, seed: int, jobs: int, *, bar: Bar) -> list[Level]:
    """How much traffic is simulated; searches for the capacity where a load is a share of it. Raises UsageError."""
    if traffic.rate is not None and (traffic.load is not None or traffic.capacity is not None):
        raise UsageError("--rate excludes --load and --capacity")
    if traffic.capacity is not None and not traffic.capacity > 0:
        raise UsageError(f"--capacity {traffic.capacity:g}: above 0")
    if traffic.rate is not None:
        return [Level(rate) for rate in options.numbers(traffic.rate, "--rate")]
    if traffic.load is None and traffic.capacity is None:
        if traffic.claim:
            return [Level(rate) for rate in claim.RATES]
        if comparison.recorded:
            return [Level()]
    loads = options.LOADS if traffic.load is None else options.numbers(traffic.load, "--load")
    rate = traffic.capacity
    if rate is None:
        found = capacity.find(comparison.conditions, seed, jobs=jobs, bar=bar, cache=capacity.default_cache())
        rate = found.rate
        known = ", known from before" if found.cached else ""
        console.print(f"capacity: {rate:.4g} requests/s (90 % of first tokens within {found.bound:.3g} s{known})")
    return [Level(load * rate, load) for load in loads]


def list_workloads(console: Console) -> None:
    """Every name that stands for a trace and a pool."""
    table = Table(title="Workloads")
    for column in ("name", "replicas", "preset", "trace", "content"):
        table.add_column(column)
    for workload in WORKLOADS.values():
        table.add_row(workload.name, str(workload.replicas), workload.preset, workload.file or f"generated: {workload.family}", workload.text)
    console.print(table)


def self_check(console: Console, asked: Asked, rate: str | None, seed_text: str) -> None:
    """Simulation against reality. Raises UsageError and ConfigError."""
    _one_trace(asked, "--self-check")
    asked.trace = asked.trace or checks.WORKLOAD
    asked.policy = asked.policy or list(options.POLICIES[:1])
    asked.replicas = asked.replicas or (None if asked.replica_speeds else checks.REPLICAS)
    seed = options.seeds(seed_text)[0]
    excerpt = checks.excerpt_of(options.comparison(asked), seed, None if rate is None else options.numbers(rate, "--rate")[0])
    console.print(f"{excerpt.title}; takes about {checks.SECONDS:.0f} s, and until all answers have ended")
    checks.print_comparison(console, checks.compare(excerpt, seed, Bar()), excerpt.title)


def write_trace(asked: Asked, seed_text: str, path: Path) -> None:
    """The trace of the first seed as a file. Raises UsageError and ConfigError."""
    _one_trace(asked, "--write-trace")
    trace = options.comparison(asked).conditions.source.of(options.seeds(seed_text)[0])
    try:
        path.write_text(trace.write(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--write-trace {path}: {error.strerror or error}") from error


def _one_trace(asked: Asked, option: str) -> None:
    if asked.more:
        raise UsageError(f"{option} takes one trace, not {1 + len(asked.more)}")


def _write(console: Console, tables: Sequence[Results], output: Output, title: str, subfolder: str | None) -> None:
    """After each trace: what was simulated so far is kept if the next one is cancelled."""
    if output.csv is not None and not output.csv_on_stdout:
        try:
            output.csv.write_text(as_csv(tables), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--csv {output.csv}: {error.strerror or error}") from error
    if output.plot is not None:
        picture = plots.Picture(title, shlex.join(["warmroute", *sys.argv[1:]]))
        for path in plots.draw(output.plot / subfolder if subfolder else output.plot, tables[-1].outcomes, picture):
            console.print(f"wrote {path}")
