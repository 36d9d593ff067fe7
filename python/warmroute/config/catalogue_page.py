"""The catalogue of plugins as a page in Markdown: `docs/plugins.md`."""

import json
from collections.abc import Iterator

from warmroute.config.catalogue import Entry, Parameter, by_extension_point

_HEAD = """# Plugins

Every type of plugin that a configuration may name. This page is made from the code: `warmroute plugins --output markdown > docs/plugins.md` writes it again,
and `warmroute plugins TYPE` shows one type in the terminal.

Types that are **alpha** need `--allow-experimental-plugins`. What a plugin consumes is made by another one; where a configuration has none that makes it,
the default is added. Names and defaults are those of the reference picker where it has the plugin.
"""


def page(entries: tuple[Entry, ...]) -> str:
    """The whole page: an overview by extension point, then each type with its parameters."""
    return "\n".join((_HEAD, *_overview(entries), *(line for entry in entries for line in section(entry))))


def section(entry: Entry) -> Iterator[str]:
    """One type: what it is, and a table of its parameters."""
    yield f"## {entry.type}"
    yield ""
    yield _cell(entry.summary)
    yield ""
    yield _facts(entry)
    yield ""
    if entry.parameters:
        yield "| parameter | expected | default | unit | |"
        yield "|---|---|---|---|---|"
        for name, parameter in flat(entry.parameters):
            text = parameter.summary if parameter.deprecated is None else f"{parameter.summary} Deprecated: {parameter.deprecated}".strip()
            cells = (f"`{name}`", parameter.expected, shown_default(parameter, "`"), parameter.unit, text)
            yield f"| {' | '.join(map(_cell, cells))} |"
        yield ""


def flat(parameters: tuple[Parameter, ...], prefix: str = "") -> Iterator[tuple[str, Parameter]]:
    """The parameters with the fields inside of them, by path: `engineConfigs[].name`."""
    for parameter in parameters:
        name = prefix + parameter.name
        yield name, parameter
        if parameter.fields:
            yield from flat(parameter.fields, f"{name}[]." if parameter.expected.startswith("a list") else f"{name}.")


def shown_default(parameter: Parameter, quote: str = "") -> str:
    """The default as a file would write it; `required`, or nothing."""
    if parameter.required:
        return "required"
    return "" if parameter.default is None else f"{quote}{json.dumps(parameter.default, ensure_ascii=False)}{quote}"


def facts(entry: Entry) -> Iterator[tuple[str, str]]:
    """What else there is to say of a type, as pairs of a word and its values."""
    yield "extension point", ", ".join(entry.roles)
    yield "stability", entry.stability
    if entry.deprecated is not None:
        yield "deprecated", entry.deprecated
    if entry.aliases:
        yield "also called", ", ".join(entry.aliases)
    if entry.consumes:
        yield "consumes", ", ".join(entry.consumes)
    if entry.produces is not None:
        yield "makes", entry.produces
    if entry.module is not None:
        yield "from", entry.module


def _overview(entries: tuple[Entry, ...]) -> Iterator[str]:
    yield "| extension point | type | stability | |"
    yield "|---|---|---|---|"
    for role, of_role in by_extension_point(entries).items():
        for position, entry in enumerate(of_role):
            stability = entry.stability if entry.deprecated is None else f"{entry.stability}, deprecated"
            yield f"| {role if position == 0 else ''} | [{entry.type}](#{entry.type}) | {stability} | {_cell(entry.summary)} |"
    yield ""


def _facts(entry: Entry) -> str:
    return "; ".join(f"{word}: {_cell(value)}" for word, value in facts(entry)) + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
