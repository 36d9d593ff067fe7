"""Results as a table for a person: medians over the seeds, and below each its ratio to the first policy's."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute.replay.measures import COLUMNS, Measure, median
from warmroute.replay.run import Outcome

_ROOM = 1000
# Answers take seconds: what arrives within less says little about a load.
_SHORT_SECONDS = 30.0
# Share of the rate asked for from which on the difference is chance.
_OFFERED_LEAST = 0.9


def print_tables(console: Console, outcomes: Sequence[Outcome], *, title: str, seeds: str) -> None:
    """One table a level. `title`: trace and pool; `seeds`: which, in words."""
    for level in dict.fromkeys(outcome.level for outcome in outcomes):
        at_level = [outcome for outcome in outcomes if outcome.level == level]
        named = f"{title}, {at_level[0].result['requests']:,} requests, {seeds}: {level.words}"
        table = _table(at_level, named)
        # Measured as if there were room: otherwise it is told to be no wider than the terminal.
        fits = console.measure(table, options=console.options.update(width=_ROOM)).maximum <= console.width
        console.print(table if fits else _turned(at_level, named))
    for note in notes(outcomes):
        console.print(note, style="yellow")


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to read the numbers right."""
    found = []
    for level in dict.fromkeys(outcome.level for outcome in outcomes if outcome.level.rate is not None):
        requests = max(outcome.result["requests"] for outcome in outcomes if outcome.level == level)
        seconds = requests / (level.rate or 1)
        if seconds < _SHORT_SECONDS:
            found.append(f"{level.words}: all requests arrive within {seconds:.0f} s, too short for queues to grow; raise --requests or --repeat")
    for outcome in outcomes:
        result = outcome.result
        where = f"{outcome.policy}, {outcome.level.words}, seed {outcome.seed}"
        offered = result.get("offered")
        if outcome.level.rate is not None and offered is not None and offered < _OFFERED_LEAST * outcome.level.rate:
            found.append(
                f"{where}: only {offered:.4g} requests/s came while it was measured, because turns wait for answers; raise --repeat where it is the trace that is short"
            )
        if result.get("unfinished"):
            found.append(f"{where}: {result['unfinished']:,} of {result['requests']:,} requests had not finished when the simulation ended")
        if result.get("refused"):
            found.append(f"{where}: {result['refused']:,} requests were refused")
        if result.get("too_long"):
            found.append(f"{where}: {result['too_long']:,} requests were left out: prompt and answer are more than a replica's cache holds")
        if not result.get("measured"):
            found.append(f"{where}: nothing was measured; the trace is too short for its warm-up")
    return found


def _table(outcomes: Sequence[Outcome], title: str) -> Table:
    """A row a policy."""
    table = Table(title=title, caption="below each number: times the first policy's", caption_justify="left")
    table.add_column("policy", no_wrap=True)
    for measure in COLUMNS:
        table.add_column(Text(f"{measure.title}\n{measure.unit}"), justify="right", no_wrap=True)
    for policy, cells in _cells(outcomes, "\n").items():
        table.add_row(Text(policy), *cells)
    return table


def _turned(outcomes: Sequence[Outcome], title: str) -> Table:
    """A row a measure, for terminals that are too narrow for the other way."""
    table = Table(title=title, caption="beside each number: times the first policy's", caption_justify="left")
    table.add_column("", no_wrap=True)
    columns = _cells(outcomes, " ")
    for policy in columns:
        table.add_column(Text(policy), justify="right")
    for index, measure in enumerate(COLUMNS):
        unit = f" [{measure.unit}]" if measure.unit else ""
        table.add_row(Text(f"{measure.title}{unit}"), *(cells[index] for cells in columns.values()))
    return table


def _cells(outcomes: Sequence[Outcome], between: str) -> dict[str, list[Text]]:
    """Medians by policy, in the order of the columns; `between` a number and its ratio."""
    policies = dict.fromkeys(outcome.policy for outcome in outcomes)
    results = {policy: [outcome.result for outcome in outcomes if outcome.policy == policy] for policy in policies}
    first = next(iter(results))
    return {
        policy: [_cell(median(measure, own), None if policy == first else median(measure, results[first]), measure, between) for measure in COLUMNS]
        for policy, own in results.items()
    }


def _cell(value: float | None, base: float | None, measure: Measure, between: str) -> Text:
    if value is None:
        return Text("-")
    text = Text(measure.shown(value))
    if base:
        text.append(f"{between}×{value / base:.2f}", style="dim")  # noqa: RUF001 - the sign for "times"
    return text
