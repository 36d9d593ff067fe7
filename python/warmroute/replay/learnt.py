"""What the picker had learnt of a simulated pool at the end, as a table: rates of the pool, and how the replicas differ from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute.replay.measures import significant
from warmroute.replay.run import Outcome

_MILLISECONDS = 1e3


def print_learnt(console: Console, outcomes: Sequence[Outcome]) -> None:
    """A row a run; of the replicas the factors, in their order: 2 takes twice as long as the pool."""
    table = Table(title="learnt at the end", caption="factors by replica: how many times the pool's seconds it takes", caption_justify="left")
    for column in ("policy", "level", "seed"):
        table.add_column(column, no_wrap=True)
    for column in ("R [tokens/s]", "a [ms]", "A [ms]", "B [ms]", "o [tokens]"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("prefill factors", "decode factors", "signals"):
        table.add_column(column)
    for outcome in outcomes:
        learnt = outcome.result.get("learnt")
        if isinstance(learnt, Mapping):
            table.add_row(*(Text(cell) for cell in (outcome.policy, outcome.level.words, str(outcome.seed), *_cells(learnt))))
    console.print(table)


def _cells(learnt: Mapping[str, Any]) -> list[str]:
    curve = learnt["curve"]
    rate = significant(1 / curve["prefill_token"]) if curve["prefill_token"] > 0 else "-"
    times = [significant(curve[name] * _MILLISECONDS) for name in ("prefill_base", "decode_base", "decode_request")]
    factors = [" ".join(f"{factor:.2f}" for factor in learnt[name]) for name in ("prefill_factors", "decode_factors")]
    counts = {name: learnt["signals"].count(name) for name in dict.fromkeys(learnt["signals"])}
    signals = ", ".join(name if len(counts) == 1 else f"{count} {name}" for name, count in counts.items())
    return [rate, *times, significant(curve["output_tokens"]), *factors, signals]
