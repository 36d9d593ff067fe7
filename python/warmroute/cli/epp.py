"""`warmroute epp`: the endpoint picker as a process."""

import asyncio
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence

from warmroute import policies
from warmroute._core import end_after_signals
from warmroute.config.errors import ConfigError, UsageError
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS, Flags, parse_flags
from warmroute.config.notices import log_notices
from warmroute.config.plan import Plan
from warmroute.config.read import Given, read_plan
from warmroute.config.trial import try_plan
from warmroute.host.address import ListenError
from warmroute.logging import configure, fields
from warmroute.parent import ParentError, die_with_parent

logger = logging.getLogger(__name__)

_USAGE, _FAILURE = 2, 1
# All that a picker does after its drain takes less; a gateway's own grace period is usually longer.
_END_SECONDS = 10.0


def run(arguments: Sequence[str]) -> int:
    """Run until a signal; the process's exit status: 0 after a drain, 2 for flags or a configuration that cannot be used, 1 for failures."""
    # A sidecar that tells of a new file may do so before there is a picker to tell: that file is about to be read anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        flags = parse_flags(arguments, dict(os.environ))
        configure(flags.v, flags.zap_log_level, flags.zap_encoder)
        parent = die_with_parent() if flags.die_with_parent else None
        return _serve(flags, parent)
    except (UsageError, ParentError) as error:
        sys.stderr.write(f"warmroute epp: {error}\n")
        return _USAGE
    except ConfigError as error:
        sys.stderr.write(f"warmroute epp: the configuration cannot be used:\n{error}\n")
        return _USAGE


def _serve(flags: Flags, parent: int | None) -> int:
    # After the flags: `--help` and a mistyped flag need neither the event loop nor gRPC.
    import uvloop  # noqa: PLC0415

    flags = clamp_refresh_interval(flags)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_picker(flags, parent))
    except ListenError as error:
        sys.stderr.write(f"warmroute epp: {error}\n")
        return _FAILURE


async def _picker(flags: Flags, parent: int | None) -> int:
    from warmroute.host.picker import Picker  # noqa: PLC0415 - as above
    from warmroute.host.reload import ConfigFile  # noqa: PLC0415 - as above

    file = None if flags.config_file is None else ConfigFile(flags.config_file, lambda: _plan(flags))
    plan = _plan(flags)
    log_notices(plan.notices)
    try:
        picker = Picker(flags, plan, file)
    except ValueError as error:
        message = f"the engine refuses the configuration: {error}"
        raise UsageError(message) from error
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        # The first signal drains, the second stops at once. A parent that is gone has no gateway left to drain for.
        if stop.is_set() or parent not in {None, os.getppid()}:
            hurry.set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, picker.reload)
    # Nothing of the above runs while a plugin in Python stays in C code.
    end_after_signals(flags.drain_timeout + _END_SECONDS, _END_SECONDS)
    try:
        await picker.start()
        await stop.wait()
        await picker.drain(hurry)
    finally:
        await picker.stop()
    return 0


def _plan(flags: Flags) -> Plan:
    given = Given(
        file=flags.config_file,
        text=flags.config_text,
        policy=flags.policy or policies.DEFAULT,
        allow_experimental=flags.allow_experimental_plugins,
        plugin_modules=flags.plugin_module,
        tick=flags.refresh_metrics_interval,
    )
    plan = read_plan(given)
    # Here, where a problem still has its line: certificate files and names of series are looked at by the extension.
    try_plan(plan, flags)
    return plan


def clamp_refresh_interval(flags: Flags) -> Flags:
    """Flags with the scrape interval raised to the shortest one allowed, with a warning."""
    if flags.refresh_metrics_interval >= SHORTEST_REFRESH_SECONDS:
        return flags
    details = fields(given_seconds=flags.refresh_metrics_interval, used_seconds=SHORTEST_REFRESH_SECONDS)
    logger.warning("--refresh-metrics-interval is too short; raised", extra=details)
    return dataclasses.replace(flags, refresh_metrics_interval=SHORTEST_REFRESH_SECONDS)
