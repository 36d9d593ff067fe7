"""The data layer: which sources are polled, who reads them, and where endpoints come from."""

from warmroute.config.document import Path
from warmroute.config.errors import a
from warmroute.config.known_types import PRODUCER
from warmroute.config.load import Plugin
from warmroute.config.models import SourceRef
from warmroute.config.notices import Notice
from warmroute.config.plan import Source
from warmroute.config.plugins import (
    BUILT_IN_ENGINES,
    DEFAULT_EXTRACTOR,
    DEFAULT_SOURCE,
    NOTIFICATIONS,
    PLUGIN_TYPES,
    CoreMetricsExtractor,
    FileDiscovery,
    Kind,
)
from warmroute.config.quantities import parse_duration
from warmroute.config.resolution import Resolution

_INJECTED = "added by dataLayer.injectDefaults: no metrics-data-source is listed"
# What reads a source's pages, by the type of source.
_EXTRACTORS = {kind.reads: name for name, kind in PLUGIN_TYPES.items() if kind.reads is not None}


def resolve_sources(resolution: Resolution, tick: float) -> tuple[Source, ...]:
    """The sources that are bound, with the default one where none of its kind is listed. `tick`: base interval in seconds."""
    layer = resolution.config.data_layer
    listed = list(layer.sources) if layer is not None else []
    sources = [source for index, entry in enumerate(listed) if (source := _configured(resolution, index, entry, tick)) is not None]
    for position, source in enumerate(sources):
        if source.plugin.name in {other.plugin.name for other in sources[:position]}:
            resolution.problem(
                ("dataLayer", "sources", position, "pluginRef"), f'"{source.plugin.name}" is listed twice; bind all its extractors once'
            )
    if (layer is None or layer.inject_defaults) and not any(source.plugin.type.name == DEFAULT_SOURCE for source in sources):
        resolution.reasons["dataLayer", "sources", len(sources)] = _INJECTED
        plugin = _one_of(resolution, DEFAULT_SOURCE)
        sources.append(Source(plugin, (_one_of(resolution, DEFAULT_EXTRACTOR),), _interval(resolution, plugin, tick)))
    for plugin in resolution.with_role(Kind.EXTRACTOR.value):
        _check_engines(resolution, plugin)
    return tuple(sources)


def resolve_discovery(resolution: Resolution) -> FileDiscovery | None:
    """Where endpoints come from, where the configuration says so."""
    layer = resolution.config.data_layer
    if layer is None or layer.discovery is None:
        for plugin in resolution.with_role(Kind.DISCOVERY.value):
            message = f'"{plugin.name}" is configured and not used: name it in dataLayer.discovery.pluginRef'
            resolution.problem((*(plugin.path or ("plugins",)), "type"), message)
        return None
    model = resolution.plugins[layer.discovery.plugin_ref].parameters.model
    return model if isinstance(model, FileDiscovery) else None


def _one_of(resolution: Resolution, type_name: str) -> Plugin:
    """The configured plugin of this type, by whatever name, or a new one."""
    configured = next((plugin for plugin in resolution.plugins.values() if plugin.type.name == type_name), None)
    return configured or resolution.add(type_name, _INJECTED)


def _configured(resolution: Resolution, index: int, entry: SourceRef, tick: float) -> Source | None:
    plugin = resolution.plugins[entry.plugin_ref]
    extractors = tuple(resolution.plugins[reference.plugin_ref] for reference in entry.extractors)
    for position, extractor in enumerate(extractors):
        path: Path = ("dataLayer", "sources", index, "extractors", position, "pluginRef")
        # Data producers hear of endpoints that come and go; here the engine tells them, so there is nothing to bind.
        reads = NOTIFICATIONS if extractor.has(PRODUCER) else extractor.type.reads
        if reads != plugin.type.name:
            message = f'"{extractor.name}" reads the pages of {a(str(reads))}; "{plugin.name}" is {a(plugin.type.name)}'
            resolution.problem(path, message)
        if extractor.name in {other.name for other in extractors[:position]}:
            resolution.problem(path, f'"{extractor.name}" is listed twice')
    if not extractors and plugin.type.name in _EXTRACTORS:
        place: Path = ("dataLayer", "sources", index, "pluginRef")
        notice = Notice.without_effect(resolution.document, place, f'"{plugin.name}" without extractors', f"list {a(_EXTRACTORS[plugin.type.name])}")
        resolution.notices.append(notice)
    return Source(plugin, extractors, _interval(resolution, plugin, tick))


def _interval(resolution: Resolution, plugin: Plugin, tick: float) -> float | None:
    text = plugin.parameters.values.get("interval")
    if text is None:
        return None
    path: Path = (*(plugin.path or ("plugins",)), "parameters", "interval")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        resolution.problem(path, str(error))
        return None
    # Compared in whole microseconds: 0.15 is no exact multiple of 0.05 in binary.
    ticks, remainder = divmod(round(seconds * 1e6), round(tick * 1e6))
    if ticks < 1 or remainder:
        message = f"must be a positive multiple of the scrape tick ({tick * 1000:g}ms, --refresh-metrics-interval), not {text}"
        resolution.problem(path, message)
        return None
    return seconds


def _check_engines(resolution: Resolution, plugin: Plugin) -> None:
    extractor = plugin.parameters.model
    if not isinstance(extractor, CoreMetricsExtractor):
        return
    path: Path = (*(plugin.path or ("plugins",)), "parameters")
    names = [engine.name for engine in extractor.engine_configs]
    for index, name in enumerate(names):
        if name in names[:index]:
            resolution.problem((*path, "engineConfigs", index, "name"), f'engine "{name}" is configured twice')
    if extractor.default_engine not in {*BUILT_IN_ENGINES, *names}:
        known = ", ".join(dict.fromkeys((*BUILT_IN_ENGINES, *names)))
        message = f'"{extractor.default_engine}" is neither built in nor in engineConfigs (known: {known})'
        resolution.problem((*path, "defaultEngine"), message)
