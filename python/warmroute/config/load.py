"""From a document to a checked configuration: every problem found is reported, each on its line."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from warmroute.config.document import Document, Path
from warmroute.config.errors import ConfigError, Problem, nearest
from warmroute.config.models import LATER_FIELDS, EndpointPickerConfig, Section
from warmroute.config.plugins import LATER_PARAMETERS, LATER_TYPES, PLUGIN_TYPES, Kind

_NOT_YET = "is known to the reference picker and not supported by this version of warmroute"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A configured plugin with its parameters checked."""

    name: str
    type: str
    parameters: Section

    @property
    def kind(self) -> Kind:
        """The plugin's extension point."""
        return PLUGIN_TYPES[self.type].kind


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A document that passed every check of its own; references between plugins are resolved."""

    document: Document
    config: EndpointPickerConfig
    plugins: dict[str, Plugin]

    def of_kind(self, kind: Kind) -> list[Plugin]:
        """The configured plugins of one extension point, in order."""
        return [plugin for plugin in self.plugins.values() if plugin.kind is kind]


def load_config(document: Document) -> LoadedConfig:
    """Check a document. Raises ConfigError with all problems found."""
    if not isinstance(document.data, dict):
        raise ConfigError(document.source, [document.problem((), "expected a mapping with apiVersion and kind")])
    try:
        config = EndpointPickerConfig.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(document.source, section_problems(document, error, (), EndpointPickerConfig, LATER_FIELDS)) from error
    problems: list[Problem] = []
    plugins = _load_plugins(document, config, problems)
    _check_references(document, config, plugins, problems)
    if problems:
        raise ConfigError(document.source, problems)
    return LoadedConfig(document, config, plugins)


def section_problems(document: Document, error: ValidationError, base: Path, section: type[Section], later: frozenset[str]) -> list[Problem]:
    """Pydantic's errors under `base`, in this package's words and with lines."""
    problems = []
    for detail in error.errors(include_url=False, include_input=True):
        path: Path = (*base, *detail["loc"])
        kind = detail["type"]
        if kind == "extra_forbidden":
            field = str(detail["loc"][-1])
            known = _fields_at(section, detail["loc"][:-1])
            message = f'"{field}" {_NOT_YET}' if field in later else f'unknown field "{field}"{nearest(field, known)}'
        elif kind == "missing":
            message = "required and missing"
        elif kind == "literal_error":
            message = f"must be {detail['ctx']['expected']}, not {detail['input']!r}"
        else:
            text = detail["msg"]
            message = f"{text[0].lower()}{text[1:]}"
            if isinstance(detail["input"], str | int | float):
                message += f", not {detail['input']!r}"
        problems.append(document.problem(path, message))
    return problems


def _fields_at(section: type[Section], location: Iterable[str | int]) -> list[str]:
    """The field names that the section at `location` (below `section`) knows."""
    for part in location:
        if isinstance(part, int):
            continue
        field = next((field for field in section.model_fields.values() if field.alias == part), None)
        found = _section_in(field.annotation) if field is not None else None
        if found is None:
            return []
        section = found
    return [field.alias for field in section.model_fields.values() if field.alias is not None]


def _section_in(annotation: object) -> type[Section] | None:
    """The section class inside an annotation such as `list[SourceRef] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None


def _load_plugins(document: Document, config: EndpointPickerConfig, problems: list[Problem]) -> dict[str, Plugin]:
    plugins: dict[str, Plugin] = {}
    for index, spec in enumerate(config.plugins):
        path: Path = ("plugins", index)
        if spec.type not in PLUGIN_TYPES:
            message = (
                f'plugin type "{spec.type}" {_NOT_YET}'
                if spec.type in LATER_TYPES
                else f'unknown plugin type "{spec.type}"{nearest(spec.type, PLUGIN_TYPES)}'
            )
            problems.append(document.problem((*path, "type"), message))
            continue
        name = spec.name or spec.type
        if name in plugins:
            problems.append(document.problem((*path, "name" if spec.name else "type"), f'a second plugin named "{name}"'))
            continue
        parameters = _load_parameters(document, path, spec.type, spec.parameters or {}, problems)
        if parameters is not None:
            plugins[name] = Plugin(name, spec.type, parameters)
    return plugins


def _load_parameters(document: Document, path: Path, type_name: str, values: dict[str, object], problems: list[Problem]) -> Section | None:
    parameters = PLUGIN_TYPES[type_name].parameters
    try:
        return parameters.model_validate(values)
    except ValidationError as error:
        later = LATER_PARAMETERS.get(type_name, frozenset())
        problems += section_problems(document, error, (*path, "parameters"), parameters, later)
        return None


def _check_references(document: Document, config: EndpointPickerConfig, plugins: dict[str, Plugin], problems: list[Problem]) -> None:
    # A plugin that failed its own check is reported once, not again at each reference.
    declared = {spec.name or spec.type for spec in config.plugins}
    for reference, path, kinds in _references(config):
        if reference not in declared:
            problems.append(document.problem(path, f'no plugin is named "{reference}"{nearest(reference, declared)}'))
        elif reference in plugins and plugins[reference].kind not in kinds:
            expected = " or ".join(kind.value for kind in kinds)
            message = f'"{reference}" is a {plugins[reference].kind.value}; a {expected} is expected here'
            problems.append(document.problem(path, message))


def _references(config: EndpointPickerConfig) -> Iterator[tuple[str, Path, tuple[Kind, ...]]]:
    """Every pluginRef: the name, where it stands, and what it may name."""
    for index, profile in enumerate(config.scheduling_profiles):
        for position, entry in enumerate(profile.plugins):
            yield entry.plugin_ref, ("schedulingProfiles", index, "plugins", position, "pluginRef"), (Kind.SCORER, Kind.PICKER)
    layer = config.data_layer
    if layer is not None:
        for index, source in enumerate(layer.sources or []):
            path: Path = ("dataLayer", "sources", index)
            yield source.plugin_ref, (*path, "pluginRef"), (Kind.SOURCE,)
            for position, extractor in enumerate(source.extractors):
                yield extractor.plugin_ref, (*path, "extractors", position, "pluginRef"), (Kind.EXTRACTOR,)
        if layer.discovery is not None:
            yield layer.discovery.plugin_ref, ("dataLayer", "discovery", "pluginRef"), (Kind.DISCOVERY,)
    if config.request_handler is not None:
        for index, parser in enumerate(config.request_handler.parsers or []):
            yield parser.plugin_ref, ("requestHandler", "parsers", index, "pluginRef"), (Kind.PARSER,)
