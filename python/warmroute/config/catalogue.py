"""Every type of plugin that a configuration may name, told in one form: those of the engine, those that Python runs, and those written in Python."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from warmroute import _core
from warmroute.config.errors import UsageError, nearest
from warmroute.config.known_types import find_type
from warmroute.config.plugins import PLUGIN_TYPES, PluginType
from warmroute.plugins.registry import PluginDefinition, registered

# In the order in which an endpoint and then a request meet them; what is not named here comes last.
EXTENSION_POINTS = (
    "discovery",
    "data source",
    "extractor",
    "parser",
    "data producer",
    "screener",
    "saturation detector",
    "admitter",
    "profile handler",
    "filter",
    "scorer",
    "picker",
    "pre-request",
    "response received",
    "response complete",
)
_WORDS = {"string": "a string", "boolean": "true or false", "object": "an object", "array": "a list", "null": "null"}
_NUMBERS = {"integer": "a whole number", "number": "a number"}
_PLURALS = {"a string": "strings", "an object": "objects", "a whole number": "whole numbers", "a number": "numbers"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, or a field of the objects in one. `expected`: in words; `default`: as JSON writes it, None where there is none."""

    name: str
    expected: str
    required: bool
    default: Any
    unit: str
    summary: str
    deprecated: str | None
    fields: tuple["Parameter", ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A type of plugin. `roles`: the extension points it takes part in; `aliases`: other names by which files may call it."""

    type: str
    roles: tuple[str, ...]
    stability: str
    deprecated: str | None
    summary: str
    parameters: tuple[Parameter, ...]
    consumes: tuple[str, ...]
    produces: str | None
    aliases: tuple[str, ...]
    #: Where a plugin from outside of warmroute comes from.
    module: str | None = None


def catalogue() -> tuple[Entry, ...]:
    """All types by name, with the plugins in Python that have been loaded before."""
    kinds = json.loads(_core.plugin_kinds())
    entries = {kind["type"]: _of_engine(kind, kinds["aliases"]) for kind in kinds["types"]}
    entries |= {name: _of_host(name, kind) for name, kind in PLUGIN_TYPES.items() if name not in entries}
    entries |= {definition.type: _in_python(definition) for definition in registered()}
    return tuple(entries[name] for name in sorted(entries))


def find(name: str) -> Entry:
    """The type of that name, also by another name that files may use. Raises UsageError."""
    entries = catalogue()
    for entry in entries:
        if name == entry.type or name in entry.aliases:
            return entry
    names = [known for entry in entries for known in (entry.type, *entry.aliases)]
    message = f'there is no plugin type "{name}"{nearest(name, names)}; `warmroute plugins` lists all'
    raise UsageError(message)


def by_extension_point(entries: tuple[Entry, ...]) -> dict[str, list[Entry]]:
    """The entries under each extension point that has any, in the order in which they are met; one with two roles stands under both."""
    found = {role: [entry for entry in entries if role in entry.roles] for role in EXTENSION_POINTS}
    for entry in entries:
        for role in entry.roles:
            if role not in EXTENSION_POINTS:
                found.setdefault(role, []).append(entry)
    return {role: of_role for role, of_role in found.items() if of_role}


def _of_engine(kind: Mapping[str, Any], aliases: Mapping[str, str]) -> Entry:
    return Entry(
        type=kind["type"],
        roles=tuple(kind["roles"]),
        stability=kind["stability"],
        deprecated=kind["deprecated"],
        summary=kind["summary"],
        parameters=tuple(map(_engine_parameter, kind["parameters"])),
        consumes=tuple(kind["consumes"]),
        produces=kind["produces"],
        aliases=tuple(sorted(old for old, new in aliases.items() if new == kind["type"])),
    )


def _engine_parameter(parameter: Mapping[str, Any]) -> Parameter:
    return Parameter(**{**parameter, "fields": tuple(map(_engine_parameter, parameter["fields"]))})


def _of_host(name: str, kind: PluginType) -> Entry:
    consumes = () if kind.reads is None else (f"pages of {kind.reads}",)
    stability = "alpha" if kind.alpha else "beta"
    return Entry(name, (kind.kind.value,), stability, None, kind.summary, _of_model(kind.parameters), consumes, None, ())


def _in_python(definition: PluginDefinition) -> Entry:
    parameters = () if definition.parameters is None else _of_model(definition.parameters)
    described = find_type(definition.type)
    consumes = () if described is None else described.consumes
    return Entry(definition.type, (definition.role,), "yours", None, definition.summary, parameters, consumes, None, (), definition.place)


def _of_model(model: type[BaseModel]) -> tuple[Parameter, ...]:
    schema = model.model_json_schema(by_alias=True)
    return tuple(_schema_parameters(schema, schema.get("$defs", {})))


def _schema_parameters(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Parameter]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        shape = _resolved(field, definitions)
        # What is told of a type stands inside the choice between it and null.
        told = {**shape, **field}
        inner = _resolved(shape.get("items", shape), definitions)
        yield Parameter(
            name=name,
            expected=told.get("expected") or _expected(shape, definitions),
            required=name in required,
            default=field.get("default"),
            unit=told.get("unit", ""),
            summary=told.get("description", ""),
            deprecated=None if not field.get("deprecated") else str(field["deprecated"]),
            fields=tuple(_schema_parameters(inner, definitions)),
        )


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference leads to; of a choice between something and null, the something."""
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return _resolved(choices[0], definitions) if len(choices) == 1 else schema


def _expected(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_expected(_resolved(choice, definitions), definitions) for choice in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ("one of " if len(values) > 1 else "only ") + ", ".join(map(json.dumps, values))
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"a list of {_plural(_expected(_resolved(schema.get('items', {}), definitions), definitions))}"
    if kind == "string":
        return _string(schema)
    return _NUMBERS[kind] + _bounds(schema) if kind in _NUMBERS else _WORDS.get(kind, str(kind))


def _plural(items: str) -> str:
    head, _, rest = items.partition(" that ")
    return _PLURALS.get(head, items) + (" that are not empty" if rest == "is not empty" else "")


def _string(schema: Mapping[str, Any]) -> str:
    if "pattern" in schema:
        return f"a string like `{schema['pattern']}`"
    return "a string that is not empty" if schema.get("minLength") else "a string"


def _bounds(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f" from {least:g} to {most:g}" if isinstance(least, float) else f" from {least} to {most}"
    limits = [f"of at least {least}"] if least is not None else []
    limits += [f"above {above}"] if above is not None else []
    limits += [f"of at most {most}"] if most is not None else []
    limits += [f"below {below}"] if below is not None else []
    return " " + " and ".join(limits) if limits else ""
