"""What differs between two configurations, as lines for a log."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# The fields by which the entries of a list are known: plugins and profiles have names, the rest refers to them.
_NAMES = ("name", "pluginRef", "plugin", "type")
_LONGEST_VALUE = 200
_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: where (`plugins[queue-scorer].parameters.threshold`), and the value on each side as JSON, `absent` where there was none."""

    path: str
    before: str
    after: str


def changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """The differences between two documents of plain data, in the order of the fields. Entries of lists are matched by name, not by position."""
    if before == after and type(before) is type(after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_fields(before, after, path, "{}.{}" if path else "{}{}")
        return
    if isinstance(before, list) and isinstance(after, list):
        old, new = _by_name(before), _by_name(after)
        if old is not None and new is not None:
            yield from _of_fields(old, new, path, "{}[{}]")
            stayed = [name for name in old if name in new]
            order = [name for name in new if name in old]
            if stayed != order:
                yield Change(f"{path} (order)", _shown(stayed), _shown(order))
            return
    yield Change(path, _shown(before), _shown(after))


def _of_fields(before: Mapping[str, Any], after: Mapping[str, Any], path: str, form: str) -> Iterator[Change]:
    for name in [*before, *(name for name in after if name not in before)]:
        where = form.format(path, name)
        if name not in after:
            yield Change(where, _shown(before[name]), _ABSENT)
        elif name not in before:
            yield Change(where, _ABSENT, _shown(after[name]))
        else:
            yield from changes(before[name], after[name], where)


def _by_name(entries: list[Any]) -> dict[str, Any] | None:
    """The entries by name; None where one has no name, or two have the same."""
    named: dict[str, Any] = {}
    for entry in entries:
        name = next((entry[field] for field in _NAMES if isinstance(entry.get(field), str)), None) if isinstance(entry, Mapping) else None
        if name is None or name in named:
            return None
        named[name] = entry
    return named


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
