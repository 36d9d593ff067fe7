"""The Typer application: a group whose commands are made from their modules when they are called."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from warmroute.cli import COMMANDS, load
from warmroute.cli.optional_value import OptionalValueCommand


class _LazyGroup(typer.core.TyperGroup):
    """Knows its commands' names and one-line helps; the command that is called replaces its stand-in."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = _command(args[0])
        return super().resolve_command(ctx, args)


def _command(name: str) -> Any:
    """The Click command of a subcommand: from a function, or from a Typer application of its own."""
    loaded = _epp if name == "epp" else load(name)
    if not isinstance(loaded, typer.Typer):
        # The picker's arguments have a parser of their own: nothing of them is Click's, `--help` included.
        raw = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []} if name == "epp" else None
        application = typer.Typer(add_completion=False)
        application.command(name, cls=OptionalValueCommand, context_settings=raw)(loaded)
        loaded = application
    command = typer.main.get_command(loaded)
    command.name = name
    return command


def _epp(context: typer.Context) -> None:
    raise typer.Exit(load("epp")(context.args))


def _stand_in(name: str) -> Callable[[], None]:
    def stand_in() -> None:
        message = f"{name} was called without being loaded"
        raise RuntimeError(message)

    return stand_in


app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    help="warmroute sends each request for a large language model to the replica whose cache is warm and whose queue is short.",
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from warmroute import __version__  # noqa: PLC0415 -- the extension is loaded by who needs it

        typer.echo(f"warmroute {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=lambda wanted: _print_version(wanted=wanted), is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the whole command."""


for _name, (_, _, _help) in COMMANDS.items():
    app.command(_name, help=_help)(_stand_in(_name))
