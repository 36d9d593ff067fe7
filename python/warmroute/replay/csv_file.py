"""Results as CSV: one line a policy, level and seed, every number as exact as it is. The same for the same seed, byte for byte."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from warmroute.replay.run import Outcome

# The requests one by one have no place in a line.
_LEFT_OUT = frozenset({"details"})
_FIRST = ("trace", "pool", "policy", "load", "rate", "seed")


@dataclass(frozen=True, slots=True)
class Results:
    """The runs over a trace. `pool`: in words."""

    trace: str
    pool: str
    outcomes: Sequence[Outcome]


def as_csv(results: Sequence[Results]) -> str:
    """The lines, with a header. Columns: `_FIRST`, then the results' numbers by their dotted names; of lists (a number a replica) with blanks between."""
    rows = [
        {"trace": r.trace, "pool": r.pool, "policy": o.policy, "load": o.level.load, "rate": o.level.rate, "seed": o.seed, **flat(o.result)}
        for r in results
        for o in r.outcomes
    ]
    columns = list(dict.fromkeys([*_FIRST, *(column for row in rows for column in row)]))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def flat(result: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested numbers under dotted names, in the order of the result."""
    found: dict[str, Any] = {}
    for key, value in result.items():
        if not prefix and key in _LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        elif isinstance(value, list):
            found[f"{prefix}{key}"] = " ".join(str(one) for one in value)
        elif isinstance(value, int | float | None):
            found[f"{prefix}{key}"] = value
    return found
