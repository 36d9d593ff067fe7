"""`warmroute plugins`: every type of plugin, its parameters and what they mean."""

import dataclasses
import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from warmroute.config.catalogue import Entry

# Into a file or a pipe nothing is wrapped that a terminal of this width would show.
_WIDTH_OF_FILES = 200


class Output(StrEnum):
    """How the plugins are written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"


def plugins(
    type_name: Annotated[str | None, typer.Argument(metavar="[TYPE]", help="Show this type only, with its parameters.")] = None,
    output: Annotated[Output, typer.Option(help="As tables for people, as the page docs/plugins.md, or as JSON.")] = Output.TEXT,
    plugin_module: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="Load plugins in Python from this module or .py file first. Repeatable.")
    ] = None,
) -> None:
    """List the plugins that a configuration may name: by extension point, with stability and one line each.

    Examples: `warmroute plugins`, `warmroute plugins queue-scorer`.
    """
    # Imported here: `--help` needs neither the engine nor the models of the configuration.
    from warmroute.config.catalogue import catalogue, find  # noqa: PLC0415
    from warmroute.config.errors import UsageError  # noqa: PLC0415
    from warmroute.plugins.registry import load_entry_points, load_module  # noqa: PLC0415

    try:
        load_entry_points()
        for module in plugin_module or ():
            load_module(module)
        entries = catalogue() if type_name is None else (find(type_name),)
    except UsageError as error:
        typer.echo(f"warmroute plugins: {error}", err=True)
        raise typer.Exit(2) from error
    if output is Output.JSON:
        documents = [dataclasses.asdict(entry) for entry in entries]
        typer.echo(json.dumps(documents if type_name is None else documents[0], indent=2, ensure_ascii=False))
    elif output is Output.MARKDOWN:
        from warmroute.config.catalogue_page import page, section  # noqa: PLC0415

        typer.echo(page(entries) if type_name is None else "\n".join(section(entries[0])), nl=False)
    else:
        _print(entries, one=type_name is not None)


def _print(entries: "tuple[Entry, ...]", *, one: bool) -> None:
    from rich.console import Console  # noqa: PLC0415 -- as above

    console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, markup=False, highlight=False)
    if one:
        _print_one(console, entries[0])
    else:
        _print_all(console, entries)


def _print_all(console: "Console", entries: "tuple[Entry, ...]") -> None:
    from rich.table import Table  # noqa: PLC0415 -- as above

    from warmroute.config.catalogue import by_extension_point  # noqa: PLC0415 -- as above

    table = Table(box=None, pad_edge=False)
    for column in ("extension point", "type", "stability", ""):
        table.add_column(column, no_wrap=bool(column), overflow="fold")
    for role, of_role in by_extension_point(entries).items():
        for position, entry in enumerate(of_role):
            stability = entry.stability if entry.deprecated is None else f"{entry.stability}, deprecated"
            table.add_row(role if position == 0 else "", entry.type, stability, entry.summary)
    console.print(table)
    console.print("\n`warmroute plugins TYPE` shows the parameters of one.")


def _print_one(console: "Console", entry: "Entry") -> None:
    from rich.table import Table  # noqa: PLC0415 -- as above

    from warmroute.config.catalogue_page import facts, flat, shown_default  # noqa: PLC0415 -- as above

    console.print(entry.type, style="bold")
    console.print(entry.summary)
    for word, value in facts(entry):
        console.print(f"{word}: {value}")
    if not entry.parameters:
        console.print("It has no parameters.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "expected", "default", "unit", ""):
        table.add_column(column, overflow="fold")
    for name, parameter in flat(entry.parameters):
        text = parameter.summary if parameter.deprecated is None else f"{parameter.summary} Deprecated: {parameter.deprecated}".strip()
        table.add_row(name, parameter.expected, shown_default(parameter), parameter.unit, text)
    console.print()
    console.print(table)
