"""Results as CSV: one line a policy, level and seed, every number as exact as it is. The same for the same seed, byte for byte."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from warmroute.replay.run import Outcome

# Lists and nested tables have no place in a line: picks of each replica, what was learnt, the requests one by one.
_LEFT_OUT = frozenset({"picks", "learnt", "details"})
_FIRST = ("trace", "pool", "policy", "load", "rate", "seed")


def as_csv(outcomes: Sequence[Outcome], *, trace: str, pool: str) -> str:
    """The lines, with a header. Columns: `_FIRST`, then the results' numbers by their dotted names."""
    rows = [
        {"trace": trace, "pool": pool, "policy": o.policy, "load": o.level.load, "rate": o.level.rate, "seed": o.seed, **flat(o.result)}
        for o in outcomes
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
        elif isinstance(value, int | float | None):
            found[f"{prefix}{key}"] = value
    return found
