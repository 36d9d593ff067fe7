"""The `warmroute` command. Subcommands are imported when they are asked for: `warmroute --help` and each start stay fast."""

import importlib
import sys
from typing import Any

# Subcommand to the module that has it, the function in it, and what the overview says.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("warmroute.cli.up", "up", "A gateway on this machine: Envoy, the picker, and model servers (real or simulated)."),
    "epp": ("warmroute.cli.epp", "run", "The endpoint picker alone, for a gateway that is already there."),
    "plugins": ("warmroute.cli.plugins", "plugins", "The plugins that a configuration may name, with their parameters."),
    "check": ("warmroute.cli.check", "check", "Check a configuration, and print it with every default filled in and where it came from."),
    "sim": ("warmroute.cli.sim", "sim", "Simulated model servers."),
    "replay": ("warmroute.cli.replay", "replay", "Compare policies over a trace: what another one would have done."),
    "bench": ("warmroute.cli.bench", "bench", "Parts of the measurements in bench/."),
}


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    # The picker has its own parser (the flags of the reference are not Click's); a start without Typer saves its import.
    if arguments[:1] == ["epp"]:
        from warmroute.cli.epp import run  # noqa: PLC0415 - only the command that runs is imported

        sys.exit(run(arguments[1:]))
    from warmroute.cli.app import app  # noqa: PLC0415 - as above

    app(prog_name="warmroute")


def load(name: str) -> Any:
    """The function of a subcommand. KeyError for an unknown name."""
    module, function, _ = COMMANDS[name]
    return getattr(importlib.import_module(module), function)
