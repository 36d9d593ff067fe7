"""What a configuration says of KV events."""

from warmroute.config.errors import ConfigError, Problem
from warmroute.config.known_types import EXACT_PREFIX_TYPES
from warmroute.config.plan import Plan
from warmroute.kv_events.settings import KvEventsError, KvEventsSettings


def kv_events_settings(plan: Plan) -> KvEventsSettings | None:
    """How KV events come; None: nothing of the configuration needs them.

    Raises:
        ConfigError: they cannot come like this, or two plugins want them in different ways.
    """
    found: KvEventsSettings | None = None
    for plugin in plan.plugins:
        if plugin.type.name not in EXACT_PREFIX_TYPES:
            continue
        try:
            settings = KvEventsSettings.from_parameters(plugin.parameters.values.get("kvEventsConfig") or {})
        except KvEventsError as error:
            raise ConfigError(plan.effective.source, [_placed(plan, plugin.name, str(error))]) from error
        if found is not None and found != settings:
            message = "kvEventsConfig: differs from that of the plugin before it; a picker receives KV events in one way for all"
            raise ConfigError(plan.effective.source, [_placed(plan, plugin.name, message)])
        found = settings
    return found


def _placed(plan: Plan, name: str, message: str) -> Problem:
    """The message as a problem of its parameter, on its line where the configuration has it."""
    index = [plugin["name"] for plugin in plan.effective.data["plugins"]].index(name)
    parameter, _, text = message.partition(": ")
    path = f"plugins[{index}].parameters.{parameter}"
    known = path
    while known and known not in plan.effective.origins:
        known = known.rpartition(".")[0]
    line = plan.effective.origins.get(known, "").partition("line ")[2]
    return Problem(int(line) if line.isdigit() else None, path, text)
