"""What a configuration leaves unsaid: the defaulting rules, and the plan that the picker runs."""

from pydantic import BaseModel

from warmroute import policies
from warmroute.config.data_layer import resolve_discovery, resolve_sources
from warmroute.config.describe import describe
from warmroute.config.document import Document
from warmroute.config.errors import ConfigError
from warmroute.config.known_types import PARSER, SATURATION_DETECTOR, find_type
from warmroute.config.load import LoadedConfig, Plugin, load_config
from warmroute.config.notices import Notice
from warmroute.config.plan import Plan
from warmroute.config.plugins import DEFAULT_DETECTOR, DEFAULT_PARSERS, NOTIFICATIONS, Kind
from warmroute.config.producers import add_producers, in_running_order
from warmroute.config.profiles import resolve_profiles
from warmroute.config.resolution import Resolution
from warmroute.plugins.registry import PluginDefinition

__all__ = ["Plan", "default_plan", "resolve"]

_SHORTEST_TICK_SECONDS = 0.05

# What the effective configuration tells of the values of a policy that runs where no configuration is given.
_ORIGINS = {
    policies.DEFAULT: "default policy: no configuration is given",
    "reference": "rule 1: no configuration is given (--policy reference)",
}


def default_plan(policy: str = policies.DEFAULT) -> Plan:
    """The plan without any configuration (rule 1), endpoints from elsewhere. `policy`: a name of `warmroute.policies`. Raises UsageError for others."""
    document = policies.document(policy)
    # Without lines: what is told of a value is that nobody configured it, not where it stands in a file that the user has never seen.
    origin = _ORIGINS.get(policy, f"no configuration is given (--policy {policy})")
    return resolve(load_config(Document(origin, document.data, {})), _SHORTEST_TICK_SECONDS)


def resolve(loaded: LoadedConfig, tick: float) -> Plan:
    """Apply the defaulting rules. `tick`: base scrape interval in seconds. Raises ConfigError."""
    resolution = Resolution(loaded)
    profiles = resolve_profiles(resolution)
    parsers = _resolve_parsers(resolution)
    detector = _resolve_detector(resolution)
    sources = resolve_sources(resolution, tick)
    discovery = resolve_discovery(resolution)
    add_producers(resolution)
    plugins = in_running_order(resolution)
    if resolution.problems:
        raise ConfigError(loaded.document.source, resolution.problems)
    in_profiles = {entry.plugin.name for profile in profiles for entry in profile.entries}
    bound = {extractor.name for source in sources for extractor in (source.plugin, *source.extractors)} | {parser.name for parser in parsers}
    _note_unused(resolution, in_profiles | bound)
    return Plan(
        plugins,
        profiles,
        tuple(source for source in sources if source.plugin.type.name != NOTIFICATIONS),
        tuple(parser.type.name for parser in parsers),
        detector.name if detector is not None else None,
        discovery,
        {plugin.name: plugin.type.name for plugin in resolution.plugins.values()},
        _python_plugins(plugins),
        tuple(dict.fromkeys(resolution.notices)),
        describe(resolution, profiles=profiles, sources=sources, parsers=parsers),
    )


def _resolve_parsers(resolution: Resolution) -> tuple[Plugin, ...]:
    config = resolution.config
    references = config.request_handler.parsers if config.request_handler is not None else []
    if references:
        return tuple(resolution.named_or_default(reference.plugin_ref) for reference in references)
    if config.parser is not None:
        # The deprecated field counts only where the new one is absent.
        resolution.reasons["requestHandler", "parsers", 0, "pluginRef"] = resolution.origin(("parser", "pluginRef"))
        return (resolution.named_or_default(config.parser.plugin_ref),)
    reason = "added by rule 5: requestHandler names no parsers"
    resolution.reasons["requestHandler", "parsers"] = reason
    return tuple(resolution.add(parser, reason) for parser in DEFAULT_PARSERS)


def _resolve_detector(resolution: Resolution) -> Plugin | None:
    detector = resolution.config.saturation_detector
    if detector is not None and detector.plugin_ref is not None:
        return resolution.named_or_default(detector.plugin_ref)
    if find_type(DEFAULT_DETECTOR) is None:
        return None
    plugin = resolution.add(DEFAULT_DETECTOR, "added by rule 5: requests of negative priority are refused while it finds the pool saturated")
    return plugin if plugin.has(SATURATION_DETECTOR) else None


def _python_plugins(plugins: tuple[Plugin, ...]) -> dict[str, tuple[PluginDefinition, BaseModel | None]]:
    return {plugin.name: (plugin.type.definition, plugin.parameters.model) for plugin in plugins if plugin.type.definition is not None}


def _note_unused(resolution: Resolution, used: set[str]) -> None:
    """Tell of what takes part in nothing: in the reference it is silently idle too."""
    places = {
        "filter": "a profile",
        "scorer": "a profile",
        "picker": "a profile",
        Kind.SOURCE.value: "dataLayer.sources",
        Kind.EXTRACTOR.value: "an entry of dataLayer.sources",
        PARSER: "requestHandler.parsers",
    }
    for plugin in resolution.plugins.values():
        if plugin.path is None or plugin.name in used or plugin.type.name == NOTIFICATIONS:
            continue
        if all(role in places for role in plugin.type.roles):
            instead = f"name it in {places[plugin.type.roles[0]]}, or leave it out"
            resolution.notices.append(Notice.without_effect(resolution.document, (*plugin.path, "type"), f'plugin "{plugin.name}"', instead))
