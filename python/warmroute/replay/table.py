"""Results as a table for a person: medians over the seeds, and below each its ratio to the first policy's."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute.replay.measures import COLUMNS, Measure, median
from warmroute.replay.run import Level, Outcome


def print_tables(console: Console, outcomes: Sequence[Outcome], *, title: str) -> None:
    """One table a level. `title`: trace, pool and seeds."""
    for level in dict.fromkeys(outcome.level for outcome in outcomes):
        console.print(_table([outcome for outcome in outcomes if outcome.level == level], level, title))
    for note in notes(outcomes):
        console.print(note, style="yellow", highlight=False)


def notes(outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to read the numbers right."""
    found = []
    for outcome in outcomes:
        result = outcome.result
        where = f"{outcome.policy}, {outcome.level.words}, seed {outcome.seed}"
        if result.get("unfinished"):
            found.append(f"{where}: {result['unfinished']:,} of {result['requests']:,} requests had not finished when the simulation ended")
        if result.get("refused"):
            found.append(f"{where}: {result['refused']:,} requests were refused")
        if not result.get("measured"):
            found.append(f"{where}: nothing was measured; the trace is too short for its warm-up")
    return found


def _table(outcomes: Sequence[Outcome], level: Level, title: str) -> Table:
    table = Table(title=f"{title}: {level.words}", caption="below each number: times the first policy's", caption_justify="left")
    table.add_column("policy", no_wrap=True)
    for measure in COLUMNS:
        table.add_column(Text(f"{measure.title}\n{measure.unit}"), justify="right", no_wrap=True)
    results = {policy: [outcome.result for outcome in outcomes if outcome.policy == policy] for policy in dict.fromkeys(o.policy for o in outcomes)}
    first = next(iter(results))
    for policy, own in results.items():
        cells = [_cell(measure, median(measure, own), None if policy == first else median(measure, results[first])) for measure in COLUMNS]
        table.add_row(Text(policy), *cells)
    return table


def _cell(measure: Measure, value: float | None, base: float | None) -> Text:
    if value is None:
        return Text("-")
    text = Text(measure.shown(value))
    if base:
        text.append(f"\n×{value / base:.2f}", style="dim")  # noqa: RUF001 - the sign for "times"
    return text
