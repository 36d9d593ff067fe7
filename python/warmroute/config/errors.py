"""What can be wrong with a configuration: values that know their line, rendered once at the edge."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

# What a file says is repeated in messages: it must neither end a line of a log nor drive a terminal, nor fill either.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LONGEST_TEXT = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (line from 1, dotted path of the field) and what."""

    line: int | None
    field: str
    message: str


class ConfigError(Exception):
    """A configuration that cannot be used, with everything that is wrong with it, in the order of its lines."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        """`source`: the file's name, or the flag that carried the text."""
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        """One line a problem: `source:line: field: message`."""
        return "\n".join(self._render(problem) for problem in self.problems)

    def _render(self, problem: Problem) -> str:
        place = self.source if problem.line is None else f"{self.source}:{problem.line}"
        texts = (problem.field, problem.message) if problem.field else (problem.message,)
        return ": ".join((place, *map(printable, texts)))


class UsageError(Exception):
    """Flags that cannot be used; the message tells the user what to change."""


def printable(text: str) -> str:
    """The text on one line, and no longer than one wants to read."""
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}" if found[0] not in "\n\t" else {"\n": "\\n", "\t": "\\t"}[found[0]], text)
    return escaped if len(escaped) <= _LONGEST_TEXT else f"{escaped[:_LONGEST_TEXT]}…"


def a(noun: str) -> str:
    """`a scorer`, `an extractor`."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the known name closest to `name`, or the empty string."""
    matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f' (did you mean "{matches[0]}"?)' if matches else ""
