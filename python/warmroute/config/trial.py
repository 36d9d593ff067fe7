"""Whether the extension takes a plan: what only it can tell, such as certificate files and series names, is found before a picker runs it."""

import re

from warmroute._core import Engine, PythonPlugin, Scraper
from warmroute.config.effective import Effective
from warmroute.config.errors import ConfigError, Problem
from warmroute.config.flags import Flags
from warmroute.config.plan import Plan
from warmroute.config.settings import engine_settings, policy_settings, scraper_settings

# Nothing is asked of the plugins that are made for a trial.
_ANY_BUDGET_SECONDS = 1.0
# How the scraper names a place: the source, perhaps an extractor of it and an engine of that, and the field.
_PLACE = re.compile(r'^scraper settings: source "([^"]*)": (?:extractor "([^"]*)": )?(?:engine "([^"]*)": )?(\w+)[: ]+(.*)$', re.DOTALL)


def try_plan(plan: Plan, flags: Flags) -> None:
    """Build what the plan asks for, without an endpoint, and throw it away. Raises ConfigError."""
    plugins = {name: PythonPlugin(name, definition.role, _ANY_BUDGET_SECONDS) for name, (definition, _) in plan.python_plugins.items()}
    try:
        engine = Engine(engine_settings(flags), policy_settings(plan), plugins)
        settings = scraper_settings(plan, flags)
        if settings is not None:
            Scraper(engine, settings).stop()
    except ValueError as error:
        raise ConfigError(plan.effective.source, [_placed(plan.effective, str(error))]) from error


def _placed(effective: Effective, message: str) -> Problem:
    """The extension's message as a problem, on its line where it names a place that the configuration has."""
    found = _PLACE.match(message)
    if found is not None:
        source, extractor, engine, field, text = found.groups()
        names = [plugin["name"] for plugin in effective.data["plugins"]]
        name = extractor or source
        if name in names:
            index = names.index(name)
            path = f"plugins[{index}].parameters"
            if engine is not None:
                engines = [entry["name"] for entry in effective.data["plugins"][index]["parameters"]["engineConfigs"]]
                path += f".engineConfigs[{engines.index(engine)}]" if engine in engines else ""
            path += f".{field}"
            line = effective.origins.get(path, "").partition("line ")[2]
            return Problem(int(line) if line.isdigit() else None, path, text)
    return Problem(None, "", f"the engine refuses the configuration: {message}")
