"""Options whose value may be left out: `--kv-events`, `--kv-events ADDRESS`."""

from typing import Any

import typer.core

#: Such options by command.
OPTIONAL_VALUES = {"up": frozenset({"--kv-events"})}


class OptionalValueCommand(typer.core.TyperCommand):
    """A command that reads an option of `OPTIONAL_VALUES` without a value as one with an empty value, which Typer cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give the empty value to those that have none."""
        optional = OPTIONAL_VALUES.get(self.name or "", frozenset())
        given = [f"{argument}=" if argument in optional and _is_no_value(args[place + 1 :]) else argument for place, argument in enumerate(args)]
        return super().parse_args(ctx, given)


def _is_no_value(rest: list[str]) -> bool:
    return not rest or rest[0].startswith("-")
