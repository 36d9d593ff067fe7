"""The effective configuration: what the picker runs, written as a user would, and where each value came from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from warmroute.config.document import Document, Path, render_path
from warmroute.config.scalars import plain

_COMMENT_COLUMN = 64


@dataclass(frozen=True, slots=True)
class Effective:
    """`source` is the file's name, or the flag that carried the text. `data` is a complete EndpointPickerConfig as plain data. `origins` tells of each value in it, by its path (`plugins[0].type`), where it came from."""

    source: str
    data: Mapping[str, Any]
    origins: Mapping[str, str]

    def as_yaml(self) -> str:
        """A configuration file that says all of it, each value with its origin as a comment."""
        return "".join(f"{line}\n" for line in self._lines(self.data, (), ""))

    def as_json(self) -> str:
        """`{"config": …, "origins": {path: origin}}`."""
        return json.dumps({"config": self.data, "origins": self.origins}, indent=2, ensure_ascii=False)

    def _lines(self, value: Any, path: Path, indent: str) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from self._entry(f"{indent}{_scalar(key)}:", inner, (*path, key), f"{indent}  ")
            return
        for index, inner in enumerate(value):
            below = (*path, index)
            if isinstance(inner, Mapping) and inner:
                lines = self._lines(inner, below, f"{indent}  ")
                first = next(lines)
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from lines
            else:
                yield from self._entry(f"{indent}-", inner, below, f"{indent}  ")

    def _entry(self, head: str, value: Any, path: Path, indent: str) -> Iterator[str]:
        if isinstance(value, Mapping | list) and value:
            yield head
            # A list stands under its key without further indentation; a list in a list needs it.
            yield from self._lines(value, path, indent if isinstance(value, Mapping) or head.endswith("-") else indent[:-2])
            return
        text = f"{head} {_scalar(value)}"
        yield f"{text:<{_COMMENT_COLUMN}}  # {self.origins[render_path(path)]}"


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """All values that hold no others, with their paths."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def written(document: Document, path: Path, *, null: bool = False) -> str | None:
    """Where the document says what stands at `path`: `line 7`, or its name when it has no lines; None when it does not say it.

    `null`: that nothing stands there says something.
    """
    value = document.data
    for part in path:
        inside = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not inside:
            return None
        value = value[part]
    if value is None and not null:
        return None
    line = document.problem(path, "").line
    return document.source if line is None else f"line {line}"


def _scalar(value: Any) -> str:
    text = str(yaml.safe_dump(value, width=2**31, allow_unicode=True, default_flow_style=True)).removesuffix("...\n").rstrip("\n")
    # Text of several lines, which YAML would fold, and words that PyYAML takes for text and the reference for numbers: JSON's notation is YAML too.
    ambiguous = "\n" in text or (text == value and plain(text) != value)
    return json.dumps(value, ensure_ascii=False) if ambiguous else text
