"""From a document to a checked configuration: every problem found is reported, each on its line."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from warmroute.config.document import Document, Path
from warmroute.config.errors import ConfigError, Problem, a, nearest
from warmroute.config.feature_gates import GATES, WITHOUT_EFFECT, check_gates, gate_places
from warmroute.config.hints import unknown_plugin
from warmroute.config.known_types import (
    FILTER,
    PARSER,
    PICKER,
    PRODUCER,
    SATURATION_DETECTOR,
    SCORER,
    TypeDescription,
    canonical,
    find_type,
    is_later,
    known_names,
)
from warmroute.config.models import API_VERSION, DEPRECATED_API_VERSION, LATER_FIELDS, DataLayer, EndpointPickerConfig, PluginSpec
from warmroute.config.notices import Notice
from warmroute.config.parameters import Parameters, check_parameters
from warmroute.config.plugins import DEFAULT_DETECTOR, DEFAULT_PARSERS, Kind
from warmroute.config.sections import NOT_YET, section_problems
from warmroute.plugins import registry


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plugin with its parameters checked; `path` is where it stands in the document, None for one that a rule added."""

    name: str
    type: TypeDescription
    parameters: Parameters
    path: Path | None = None

    def has(self, *roles: str) -> bool:
        """True when it takes part in one of the roles."""
        return any(role in self.type.roles for role in roles)


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A document that passed every check of its own; references between plugins are resolved."""

    document: Document
    config: EndpointPickerConfig
    plugins: dict[str, Plugin]
    notices: list[Notice] = field(default_factory=list)
    #: Every feature gate with its value.
    gates: dict[str, bool] = field(default_factory=dict)

    def with_role(self, *roles: str) -> list[Plugin]:
        """The configured plugins that take part in one of the roles, in order."""
        return [plugin for plugin in self.plugins.values() if plugin.has(*roles)]


def load_config(document: Document, *, allow_experimental: bool = False) -> LoadedConfig:
    """Check a document. `allow_experimental`: alpha types may be used. Raises ConfigError with all problems found."""
    if not isinstance(document.data, dict):
        raise ConfigError(document.source, [document.problem((), "expected a mapping with apiVersion and kind")])
    problems: list[Problem] = []
    try:
        config = EndpointPickerConfig.model_validate(document.data)
    except ValidationError as error:
        problems += section_problems(document, error, (), EndpointPickerConfig, LATER_FIELDS)
        # The plugins that are written as such are checked all the same: a user who has to change the file sees everything at once.
        config = EndpointPickerConfig.model_construct(plugins=[])
        specs = _specs(document)
    else:
        specs = dict(enumerate(config.plugins))
    if any(find_type(spec.type) is None for spec in specs.values()):
        # Only now: looking through all installed packages takes longer than all the rest.
        registry.load_entry_points()
    loaded = LoadedConfig(document, config, {}, gates=check_gates(document, problems))
    unusable = bool(problems)
    for index, spec in specs.items():
        _load_plugin(loaded, ("plugins", index), spec, problems, allow_experimental=allow_experimental)
    if not unusable:
        loaded.notices[:0] = _document_notices(document, config, loaded.gates)
        _check_references(loaded, problems)
    if problems:
        raise ConfigError(document.source, problems)
    return loaded


def _specs(document: Document) -> dict[int, PluginSpec]:
    """The entries under `plugins` that are well-formed, by their place."""
    specs = {}
    plugins = document.data.get("plugins")
    for index, entry in enumerate(plugins if isinstance(plugins, list) else []):
        with contextlib.suppress(ValidationError):
            specs[index] = PluginSpec.model_validate(entry)
    return specs


def _document_notices(document: Document, config: EndpointPickerConfig, gates: Mapping[str, bool]) -> list[Notice]:
    notices = []
    if config.api_version == DEPRECATED_API_VERSION:
        notices.append(Notice.deprecated(document, ("apiVersion",), DEPRECATED_API_VERSION, API_VERSION))
    if config.saturation_detector is not None:
        instead = "flowControl.saturationDetector, once this version reads flowControl"
        notices.append(Notice.deprecated(document, ("saturationDetector",), "saturationDetector", instead))
    if config.parser is not None:
        notices.append(Notice.deprecated(document, ("parser",), "parser", "requestHandler.parsers"))
    notices += [
        Notice.without_effect(document, ("featureGates", index), f'feature gate "{name}"', WITHOUT_EFFECT[name])
        for name, index in gate_places(document).items()
        if name in WITHOUT_EFFECT and gates.get(name) != GATES[name]
    ]
    return notices


def _load_plugin(loaded: LoadedConfig, path: Path, spec: PluginSpec, problems: list[Problem], *, allow_experimental: bool) -> None:
    document = loaded.document
    known = find_type(spec.type)
    if known is None:
        if is_later(canonical(spec.type)) or is_later(spec.type):
            message = f'plugin type "{spec.type}" {NOT_YET}'
        else:
            message = f'unknown plugin type "{spec.type}"{nearest(spec.type, known_names())}'
        problems.append(document.problem((*path, "type"), message))
        return
    if known.alpha and not allow_experimental:
        message = f'plugin type "{spec.type}" is experimental (alpha); start with --allow-experimental-plugins to use it'
        problems.append(document.problem((*path, "type"), message))
    name = spec.name or spec.type
    if name in loaded.plugins:
        problems.append(document.problem((*path, "name" if spec.name else "type"), f'a second plugin named "{name}"'))
        return
    if known.name != spec.type:
        loaded.notices.append(Notice.deprecated(document, (*path, "type"), spec.type, known.name))
    elif known.deprecated is not None:
        loaded.notices.append(Notice.deprecated(document, (*path, "type"), spec.type, known.deprecated))
    parameters = check_parameters(document, (*path, "parameters"), known, name, spec.parameters or {}, problems)
    if parameters is None:
        return
    loaded.notices.extend(
        Notice.deprecated(document, (*path, "parameters", *below), str(below[-1]), instead) for below, instead in parameters.deprecated
    )
    loaded.plugins[name] = Plugin(name, known, parameters, path)


def _check_references(loaded: LoadedConfig, problems: list[Problem]) -> None:
    # A plugin that failed its own check is reported once, not again at each reference.
    declared = {spec.name or spec.type for spec in loaded.config.plugins}
    implied = {DEFAULT_DETECTOR, *DEFAULT_PARSERS} - declared
    for reference, path, roles in _references(loaded.config):
        plugin = loaded.plugins.get(reference)
        if reference in implied and (known := find_type(reference)) is not None and set(roles) & set(known.roles):
            continue  # Rule 5 adds it.
        if reference not in declared:
            by_default = {name for name in implied if (known := find_type(name)) is not None and set(roles) & set(known.roles)}
            unchecked = declared - set(loaded.plugins)
            possible = {*(plugin.name for plugin in loaded.with_role(*roles)), *unchecked, *by_default}
            problems.append(loaded.document.problem(path, unknown_plugin(reference, possible, roles)))
        elif plugin is not None and not plugin.has(*roles) and not (PICKER in roles and plugin.type.in_policy):
            expected = f"{', '.join(roles[:-1])} or {roles[-1]}" if len(roles) > 1 else roles[0]
            message = f'"{reference}" is {a(plugin.type.role_text)}; {a(expected)} is expected here'
            problems.append(loaded.document.problem(path, message))


def _references(config: EndpointPickerConfig) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Every pluginRef: the name, where it stands, and what it may name."""
    for index, profile in enumerate(config.scheduling_profiles):
        for position, entry in enumerate(profile.plugins):
            yield entry.plugin_ref, ("schedulingProfiles", index, "plugins", position, "pluginRef"), (FILTER, SCORER, PICKER)
    if config.data_layer is not None:
        yield from _layer_references(config.data_layer)
    if config.request_handler is not None:
        for index, parser in enumerate(config.request_handler.parsers):
            yield parser.plugin_ref, ("requestHandler", "parsers", index, "pluginRef"), (PARSER,)
    if config.parser is not None:
        yield config.parser.plugin_ref, ("parser", "pluginRef"), (PARSER,)
    if config.saturation_detector is not None and config.saturation_detector.plugin_ref is not None:
        yield config.saturation_detector.plugin_ref, ("saturationDetector", "pluginRef"), (SATURATION_DETECTOR,)


def _layer_references(layer: DataLayer) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    for index, source in enumerate(layer.sources):
        path: Path = ("dataLayer", "sources", index)
        yield source.plugin_ref, (*path, "pluginRef"), (Kind.SOURCE.value,)
        for position, extractor in enumerate(source.extractors):
            yield extractor.plugin_ref, (*path, "extractors", position, "pluginRef"), (Kind.EXTRACTOR.value, PRODUCER)
    if layer.discovery is not None:
        yield layer.discovery.plugin_ref, ("dataLayer", "discovery", "pluginRef"), (Kind.DISCOVERY.value,)
