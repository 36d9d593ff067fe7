"""What a configuration leaves unsaid: the defaulting rules, and the plan that the picker runs."""

from dataclasses import dataclass
from typing import Literal, TypeVar

from warmroute.config.document import Path
from warmroute.config.errors import ConfigError, Problem
from warmroute.config.load import LoadedConfig, Plugin
from warmroute.config.models import SchedulingProfile, Section
from warmroute.config.plugins import (
    BUILT_IN_ENGINES,
    ApproxPrefixCacheProducer,
    CoreMetricsExtractor,
    FileDiscovery,
    Kind,
    MetricsDataSource,
    NoParameters,
    PickerParameters,
)
from warmroute.config.quantities import parse_duration

Policy = Literal["marginal-latency", "reference"]

_POLICIES: dict[Policy, tuple[tuple[str, float], ...]] = {
    "marginal-latency": (("marginal-latency-scorer", 1.0),),
    "reference": (("queue-scorer", 2.0), ("kv-cache-utilization-scorer", 2.0), ("prefix-cache-scorer", 3.0)),
}
# The reference's default parsers, all of them always on in the engine.
_PARSERS = frozenset({"openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"})


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """A plugin in the profile that decides."""

    plugin: Plugin
    weight: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the picker needs to know from its configuration, complete."""

    profile: tuple[ProfileEntry, ...]
    prefix: ApproxPrefixCacheProducer
    extractor: CoreMetricsExtractor
    #: None: no metrics are collected.
    source: MetricsDataSource | None
    #: Seconds between scrapes when the source sets its own; None: the base tick.
    source_interval: float | None
    discovery: FileDiscovery | None
    #: Every plugin that runs, configured or added by default: name to type.
    plugin_types: dict[str, str]

    @property
    def min_block_tokens(self) -> int:
        """Smallest block of the prefix index: the reference's 64 tokens where its prefix scorer runs.

        The marginal-latency cost counts tokens, to which half a block more or less means nothing, so twice the size halves the index's cost.
        """
        return 64 if "prefix-cache-scorer" in self.plugin_types.values() else 128

    @property
    def max_endpoints(self) -> int:
        """Length of the destination list that the picker's parameters ask for."""
        parameters = self.profile[-1].plugin.parameters
        return max(1, parameters.max_num_of_endpoints) if isinstance(parameters, PickerParameters) else 1


def default_plan(policy: Policy) -> Plan:
    """The plan without any configuration: the policy's scorers, metrics collected, endpoints from elsewhere."""
    entries = (*_policy_entries(policy), _default_picker())
    return _plan(entries, ApproxPrefixCacheProducer(), CoreMetricsExtractor(), MetricsDataSource(), None, None)


def resolve(loaded: LoadedConfig, tick: float) -> Plan:
    """Apply the defaulting rules. `tick`: base scrape interval in seconds. Raises ConfigError."""
    problems: list[Problem] = []
    profile = _resolve_profile(loaded, problems)
    _check_handlers(loaded, problems)
    _check_parsers(loaded, problems)
    prefix = _only(loaded, Kind.PRODUCER, ApproxPrefixCacheProducer, problems)
    extractor = _only(loaded, Kind.EXTRACTOR, CoreMetricsExtractor, problems)
    _check_engines(loaded, extractor, problems)
    source = _resolve_source(loaded, problems)
    interval = _source_interval(loaded, source, tick, problems)
    discovery = _resolve_discovery(loaded, problems)
    if problems:
        raise ConfigError(loaded.document.source, problems)
    return _plan(profile, prefix, extractor, source, interval, discovery, loaded.plugins)


def _plan(  # noqa: PLR0917 - one argument a part of the plan
    profile: tuple[ProfileEntry, ...],
    prefix: ApproxPrefixCacheProducer,
    extractor: CoreMetricsExtractor,
    source: MetricsDataSource | None,
    source_interval: float | None,
    discovery: FileDiscovery | None,
    configured: dict[str, Plugin] | None = None,
) -> Plan:
    types = {plugin.name: plugin.type for plugin in (configured or {}).values()}
    types |= {entry.plugin.name: entry.plugin.type for entry in profile}
    for default in ("single-profile-handler", "approx-prefix-cache-producer", *sorted(_PARSERS)):
        if default not in types.values():
            types[default] = default
    if source is not None:
        for default in ("metrics-data-source", "core-metrics-extractor"):
            if default not in types.values():
                types[default] = default
    return Plan(profile, prefix, extractor, source, source_interval, discovery, types)


def _policy_entries(policy: Policy) -> tuple[ProfileEntry, ...]:
    return tuple(ProfileEntry(Plugin(name, name, NoParameters()), weight) for name, weight in _POLICIES[policy])


def _default_picker() -> ProfileEntry:
    return ProfileEntry(Plugin("max-score-picker", "max-score-picker", PickerParameters()), 1.0)


def _resolve_profile(loaded: LoadedConfig, problems: list[Problem]) -> tuple[ProfileEntry, ...]:
    profiles = loaded.config.scheduling_profiles
    if len(profiles) > 1:
        message = "a second profile: this version runs one (several come with disaggregated serving)"
        problems.append(loaded.document.problem(("schedulingProfiles", 1), message))
    if profiles:
        entries = _profile_entries(loaded, profiles[0], problems)
    else:
        plugins = [*loaded.of_kind(Kind.SCORER), *loaded.of_kind(Kind.PICKER)]
        entries = [ProfileEntry(plugin, 1.0) for plugin in plugins]
        if not entries:
            # A file that says nothing of scheduling (discovery only, say) gets the default policy, not a random choice.
            entries = list(_policy_entries("marginal-latency"))
    scorers = [entry for entry in entries if entry.plugin.kind is Kind.SCORER]
    pickers = [entry for entry in entries if entry.plugin.kind is Kind.PICKER]
    if len(pickers) > 1:
        path: Path = ("schedulingProfiles", 0, "plugins") if profiles else ("plugins",)
        names = ", ".join(entry.plugin.name for entry in pickers)
        problems.append(loaded.document.problem(path, f"more than one picker ({names}); a profile has one"))
    if not pickers:
        configured = loaded.of_kind(Kind.PICKER)
        pickers = [ProfileEntry(configured[0], 1.0)] if configured else [_default_picker()]
    return (*scorers, pickers[0])


def _profile_entries(loaded: LoadedConfig, profile: SchedulingProfile, problems: list[Problem]) -> list[ProfileEntry]:
    entries = []
    for position, entry in enumerate(profile.plugins):
        plugin = loaded.plugins[entry.plugin_ref]
        weight = 1.0 if entry.weight is None else entry.weight
        if weight < 0:
            path = ("schedulingProfiles", 0, "plugins", position, "weight")
            problems.append(loaded.document.problem(path, f"a weight is not negative, not {weight}"))
        if entry.weight is not None and plugin.kind is not Kind.SCORER:
            path = ("schedulingProfiles", 0, "plugins", position, "weight")
            problems.append(loaded.document.problem(path, f'"{plugin.name}" is a {plugin.kind.value}; only scorers have a weight'))
        entries.append(ProfileEntry(plugin, weight))
    return entries


def _check_handlers(loaded: LoadedConfig, problems: list[Problem]) -> None:
    handlers = loaded.of_kind(Kind.PROFILE_HANDLER)
    if len(handlers) > 1:
        problems.append(loaded.document.problem(("plugins",), "more than one profile handler; exactly one is expected"))


def _check_parsers(loaded: LoadedConfig, problems: list[Problem]) -> None:
    handler = loaded.config.request_handler
    if handler is None or handler.parsers is None:
        return
    missing = _PARSERS - {loaded.plugins[parser.plugin_ref].type for parser in handler.parsers}
    if missing:
        message = f"leaves out {', '.join(sorted(missing))}: this version runs all four parsers and cannot switch one off"
        problems.append(loaded.document.problem(("requestHandler", "parsers"), message))


_Parameters = TypeVar("_Parameters", bound=Section)


def _only(loaded: LoadedConfig, kind: Kind, parameters: type[_Parameters], problems: list[Problem]) -> _Parameters:
    """The parameters of the one plugin of this kind, or their defaults."""
    plugins = loaded.of_kind(kind)
    if len(plugins) > 1:
        names = ", ".join(plugin.name for plugin in plugins)
        problems.append(loaded.document.problem(("plugins",), f"more than one {kind.value} ({names}); this version runs one"))
    for plugin in plugins:
        if isinstance(plugin.parameters, parameters):
            return plugin.parameters
    return parameters()


def _check_engines(loaded: LoadedConfig, extractor: CoreMetricsExtractor, problems: list[Problem]) -> None:
    names = [engine.name for engine in extractor.engine_configs]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems.extend(loaded.document.problem(("plugins",), f'engine "{name}" is configured twice') for name in twice)
    if extractor.default_engine not in (*BUILT_IN_ENGINES, *names):
        known = ", ".join((*BUILT_IN_ENGINES, *names))
        message = f'defaultEngine "{extractor.default_engine}" is neither built in nor in engineConfigs (known: {known})'
        problems.append(loaded.document.problem(("plugins",), message))


def _resolve_source(loaded: LoadedConfig, problems: list[Problem]) -> MetricsDataSource | None:
    layer = loaded.config.data_layer
    configured = _only(loaded, Kind.SOURCE, MetricsDataSource, problems)
    if layer is None or layer.inject_defaults:
        return configured
    sources = layer.sources or []
    if not sources:
        return None
    if not sources[0].extractors:
        message = "a source without extractors collects nothing; name core-metrics-extractor or leave injectDefaults on"
        problems.append(loaded.document.problem(("dataLayer", "sources", 0), message))
    return configured


def _source_interval(loaded: LoadedConfig, source: MetricsDataSource | None, tick: float, problems: list[Problem]) -> float | None:
    if source is None or source.interval is None:
        return None
    path: Path = ("plugins",)
    for index, spec in enumerate(loaded.config.plugins):
        if spec.type == "metrics-data-source":
            path = ("plugins", index, "parameters", "interval")
    try:
        seconds = parse_duration(source.interval)
    except ValueError as error:
        problems.append(loaded.document.problem(path, str(error)))
        return None
    # Compared in whole microseconds: 0.15 is no exact multiple of 0.05 in binary.
    ticks, remainder = divmod(round(seconds * 1e6), round(tick * 1e6))
    if ticks < 1 or remainder:
        message = f"must be a positive multiple of the scrape tick ({tick * 1000:g}ms, --refresh-metrics-interval), not {source.interval}"
        problems.append(loaded.document.problem(path, message))
        return None
    return seconds


def _resolve_discovery(loaded: LoadedConfig, problems: list[Problem]) -> FileDiscovery | None:
    layer = loaded.config.data_layer
    if layer is None or layer.discovery is None:
        if loaded.of_kind(Kind.DISCOVERY):
            message = "file-discovery is configured and not used: name it in dataLayer.discovery.pluginRef"
            problems.append(loaded.document.problem(("plugins",), message))
        return None
    parameters = loaded.plugins[layer.discovery.plugin_ref].parameters
    return parameters if isinstance(parameters, FileDiscovery) else None
