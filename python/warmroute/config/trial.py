"""Whether the extension takes a plan: what only it can tell, such as certificate files and series names, is found before a picker runs it."""

import re

from warmroute._core import Engine, PythonPlugin, Scraper
from warmroute.config.effective import Effective
from warmroute.config.errors import ConfigError, Problem
from warmroute.config.flags import Flags
from warmroute.config.plan import Plan
from warmroute.config.settings import engine_settings, policy_settings, scraper_settings
from warmroute.kv_events.configured import kv_events_settings

# Nothing is asked of the plugins that are made for a trial.
_ANY_BUDGET_SECONDS = 1.0
# How the scraper names a place: the source, perhaps an extractor of it and an engine of that, and the field.
_SCRAPER_PLACE = re.compile(
    r'scraper settings: source "(?P<source>[^"]*)": (?:extractor "(?P<extractor>[^"]*)": )?(?:engine "(?P<engine>[^"]*)": )?'
    r"(?P<field>\w+)[: ]+(?P<text>.*)",
    re.DOTALL,
)
# How the engine names a plugin and a profile.
_PLUGIN_PLACE = re.compile(r"plugin `(?P<plugin>[^`]*)`: (?P<text>.*)", re.DOTALL)
_PROFILE_PLACE = re.compile(r"profile `(?P<profile>[^`]*)`: (?P<text>.*)", re.DOTALL)


def try_plan(plan: Plan, flags: Flags) -> None:
    """Build what the plan asks for, without an endpoint, and throw it away. Raises ConfigError."""
    plugins = {name: PythonPlugin(name, definition.role, _ANY_BUDGET_SECONDS) for name, (definition, _) in plan.python_plugins.items()}
    try:
        engine = Engine(engine_settings(flags), policy_settings(plan), plugins)
        settings = scraper_settings(plan, flags)
        if settings is not None:
            Scraper(engine, settings).stop()
        kv_events_settings(plan)
    except ValueError as error:
        raise ConfigError(plan.effective.source, [_placed(plan.effective, str(error))]) from error


def _placed(effective: Effective, message: str) -> Problem:
    """The extension's message as a problem, on its line where it names a place that the configuration has."""
    plugins = [plugin["name"] for plugin in effective.data["plugins"]]
    profiles = [profile["name"] for profile in effective.data["schedulingProfiles"]]
    if (found := _SCRAPER_PLACE.match(message)) is not None and (found["extractor"] or found["source"]) in plugins:
        index = plugins.index(found["extractor"] or found["source"])
        path = f"plugins[{index}].parameters"
        if found["engine"] is not None:
            engines = [entry["name"] for entry in effective.data["plugins"][index]["parameters"]["engineConfigs"]]
            path += f".engineConfigs[{engines.index(found['engine'])}]" if found["engine"] in engines else ""
        return _problem(effective, f"{path}.{found['field']}", found["text"])
    if (found := _PLUGIN_PLACE.match(message)) is not None and found["plugin"] in plugins:
        return _problem(effective, f"plugins[{plugins.index(found['plugin'])}].type", found["text"])
    if (found := _PROFILE_PLACE.match(message)) is not None and found["profile"] in profiles:
        return _problem(effective, f"schedulingProfiles[{profiles.index(found['profile'])}].name", found["text"])
    return Problem(None, "", f"the engine refuses the configuration: {message}")


def _problem(effective: Effective, path: str, text: str) -> Problem:
    line = effective.origins.get(path, "").partition("line ")[2]
    return Problem(int(line) if line.isdigit() else None, path, text)
