"""`warmroute check`: is this configuration right, and what does it come to?"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_USAGE = 2


class Output(StrEnum):
    """How the effective configuration is printed."""

    yaml = "yaml"
    json = "json"


def check(
    file: Annotated[Path | None, typer.Argument(help="EndpointPickerConfig file; without it, what a picker without a configuration runs.")] = None,
    *,
    config_text: Annotated[str, typer.Option(help="EndpointPickerConfig as text, instead of a file.")] = "",
    policy: Annotated[str, typer.Option(metavar="POLICY", help="A policy by its name, instead of a file (default: marginal-latency).")] = "",
    allow_experimental_plugins: Annotated[bool, typer.Option("--allow-experimental-plugins", help="Allow alpha plugins.")] = False,
    plugin_module: Annotated[list[str] | None, typer.Option(help="Module or .py file with plugins in Python; repeat for more.")] = None,
    refresh_metrics_interval: Annotated[str, typer.Option(help="Base scrape interval, of which a source's own is a multiple.")] = "50ms",
    output: Annotated[Output, typer.Option(help="yaml: with the origin of each value as a comment; json: {config, origins}.")] = Output.yaml,
) -> None:
    """Check a configuration as the picker would at its start, and print it with every default filled in and where it came from.

    What is deprecated is told on stderr. Exit status 2, and everything that is wrong on stderr, when the configuration cannot be used.
    The output is a configuration itself. Example: `warmroute check epp.yaml`.
    """
    # Imported here: `warmroute --help` needs neither pydantic nor the engine.
    from warmroute import policies  # noqa: PLC0415
    from warmroute.config.errors import ConfigError, UsageError  # noqa: PLC0415
    from warmroute.config.flags import SHORTEST_REFRESH_SECONDS, parse_flags  # noqa: PLC0415
    from warmroute.config.read import Given, read_plan  # noqa: PLC0415
    from warmroute.config.trial import try_plan  # noqa: PLC0415

    try:
        _exclusive(file, config_text, policy)
        flags = parse_flags([f"--refresh-metrics-interval={refresh_metrics_interval}"])
        plan = read_plan(
            Given(
                file=file,
                text=config_text,
                policy=policy or policies.DEFAULT,
                allow_experimental=allow_experimental_plugins,
                plugin_modules=tuple(plugin_module or ()),
                tick=max(flags.refresh_metrics_interval, SHORTEST_REFRESH_SECONDS),
            )
        )
        try_plan(plan, flags)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(_USAGE) from error
    except UsageError as error:
        sys.stderr.write(f"warmroute check: {error}\n")
        raise typer.Exit(_USAGE) from error
    for notice in plan.notices:
        sys.stderr.write(f"warning: {notice}\n")
    sys.stdout.write(plan.effective.as_yaml() if output is Output.yaml else f"{plan.effective.as_json()}\n")


def _exclusive(file: Path | None, config_text: str, policy: str) -> None:
    from warmroute.config.errors import UsageError  # noqa: PLC0415 - as above

    if sum((file is not None, bool(config_text), bool(policy))) > 1:
        message = "a file, --config-text and --policy exclude each other"
        raise UsageError(message)
