"""Every type of plugin that a configuration may name, whoever runs it: the engine (which describes its own), this package, or a Python module."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from warmroute._core import plugin_kinds
from warmroute.config.plugins import PLUGIN_TYPES
from warmroute.config.reference_types import REFERENCE_TYPES
from warmroute.plugins import registry
from warmroute.plugins.registry import PluginDefinition

#: What the arrays that a Python plugin is given are made of.
_PYTHON_CONSUMES = ("prefix match", "in-flight load")

FILTER, SCORER, PICKER, HANDLER, PARSER, PRODUCER = "filter", "scorer", "picker", "profile handler", "parser", "data producer"
SATURATION_DETECTOR = "saturation detector"
#: What matches the tokens of prompts against what engines tell in their KV events.
EXACT_PREFIX_TYPES = ("precise-prefix-cache-producer", "precise-prefix-cache-scorer")


@dataclass(frozen=True, slots=True)
class TypeDescription:
    """A type of plugin. `roles` are words, as error messages use them (scorer, data source)."""

    name: str
    roles: tuple[str, ...]
    summary: str
    alpha: bool = False
    #: What to write instead, for a type that is still understood.
    deprecated: str | None = None
    consumes: tuple[str, ...] = ()
    produces: str | None = None
    #: The engine's description of the parameters: {name, default, deprecated, fields, ...} each.
    fields: tuple[Mapping[str, Any], ...] = ()
    #: The parameters of what does not run in the engine.
    model: type[BaseModel] | None = None
    #: The function of a plugin in Python.
    definition: PluginDefinition | None = None
    #: For an extractor: the type of source whose pages it understands.
    reads: str | None = None

    @property
    def in_policy(self) -> bool:
        """Built by the engine with its policy, or called by it."""
        return self.definition is not None or (self.model is None and PARSER not in self.roles)

    @property
    def role_text(self) -> str:
        """The roles in words."""
        return " and ".join(self.roles)


@functools.cache
def _engine() -> dict[str, Any]:
    described: dict[str, Any] = json.loads(plugin_kinds())
    return described


@functools.cache
def _built_in_types() -> dict[str, TypeDescription]:
    types = {
        name: TypeDescription(
            name, (kind.kind.value,), kind.summary, alpha=kind.alpha, produces=kind.produces, model=kind.parameters, reads=kind.reads
        )
        for name, kind in PLUGIN_TYPES.items()
    }
    for kind in _engine()["types"]:
        types[kind["type"]] = TypeDescription(
            kind["type"],
            tuple(kind["roles"]),
            kind["summary"],
            alpha=kind["stability"] == "alpha",
            deprecated=kind["deprecated"],
            consumes=tuple(kind["consumes"]),
            produces=kind["produces"],
            fields=tuple(kind["parameters"]),
        )
    return types


def find_type(name: str) -> TypeDescription | None:
    """The type of that name, also by a deprecated name of it."""
    known = _built_in_types().get(canonical(name))
    if known is not None:
        return known
    definition = registry.find(name)
    if definition is None:
        return None
    return TypeDescription(
        name, (definition.role,), definition.summary, consumes=_PYTHON_CONSUMES, model=definition.parameters, definition=definition
    )


def canonical(name: str) -> str:
    """The name of today for a deprecated name of a type; any other name as it is."""
    return str(_engine()["aliases"].get(name, name))


def known_names() -> list[str]:
    """Every name that `find_type` finds, except deprecated ones."""
    return sorted([*_built_in_types(), *(definition.type for definition in registry.registered())])


def names_with_role(role: str) -> list[str]:
    """The types that take part in that role."""
    return [name for name in known_names() if (known := find_type(name)) is not None and role in known.roles]


def is_later(name: str) -> bool:
    """True for a type of the reference that this version does not have."""
    return name in REFERENCE_TYPES and find_type(name) is None


def default_producer(data: str) -> str | None:
    """The type that is added where nothing makes `data`; None: this version's engine makes it by itself."""
    name: str | None = _engine()["data"].get(data)
    return name if name is not None and find_type(name) is not None else None


def several_may_make(data: str) -> bool:
    """Whether each consumer of `data` may name its own producer."""
    return data in _engine()["several"]
