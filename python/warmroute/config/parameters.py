"""The parameters of one plugin: checked by whoever runs it, completed with defaults."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from warmroute._core import check_plugin
from warmroute.config.document import Document, Path
from warmroute.config.errors import Problem, a
from warmroute.config.known_types import TypeDescription
from warmroute.config.models import Section
from warmroute.config.plugins import LATER_PARAMETERS
from warmroute.config.sections import NOT_YET, field_names, section_problems, unknown_field


@dataclass(frozen=True, slots=True)
class Reference:
    """A parameter that needs another plugin: where (below `parameters`), its name (None: any), and what data it has to make."""

    path: Path
    plugin: str | None
    produces: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters that passed. `given` is as written; `values` is complete, without what has neither a value nor a default."""

    given: Mapping[str, Any]
    values: Mapping[str, Any]
    references: tuple[Reference, ...] = ()
    #: Paths below `parameters` of deprecated ones that were given, and what to write instead.
    deprecated: tuple[tuple[Path, str], ...] = ()
    #: The object that code in Python reads.
    model: BaseModel | None = None


NONE = Parameters({}, {})


def check_parameters(  # noqa: PLR0917 - a place, a type and what stands there
    document: Document, path: Path, known: TypeDescription, name: str, given: Mapping[str, Any], problems: list[Problem]
) -> Parameters | None:
    """Check what stands at `path`; None when it cannot be used, with what is wrong added to `problems`."""
    not_finite = list(_not_finite(given, ()))
    if not_finite:
        problems += [document.problem((*path, *below), f"must be a finite number, not {value}") for below, value in not_finite]
        return None
    if known.model is not None:
        return _by_model(document, path, known.model, known.name, given, problems)
    if known.definition is not None:
        found = [document.problem((*path, field), unknown_field(field, ())) for field in given]
        problems += found
        return None if found else NONE
    return _by_engine(document, path, known, name, given, problems)


def _by_model(  # noqa: PLR0917 - as above
    document: Document, path: Path, model: type[BaseModel], type_name: str, given: Mapping[str, Any], problems: list[Problem]
) -> Parameters | None:
    try:
        parameters = model.model_validate(dict(given))
    except ValidationError as error:
        problems += section_problems(document, error, path, model, LATER_PARAMETERS.get(type_name, frozenset()))
        return None
    except Exception as error:  # noqa: BLE001 - a validator of somebody's model may raise anything
        problems.append(document.problem(path, f"cannot be read by {a(type_name)}: {type(error).__name__}: {error}"))
        return None
    ignored = [
        document.problem((*path, *below, field), unknown_field(field, field_names(section)))
        for below, section, field in _ignored_fields(parameters, given, ())
    ]
    if ignored:
        problems += ignored
        return None
    try:
        # Null is no value for the sections of this package; what it means to a model in Python, only that knows.
        values = parameters.model_dump(mode="json", by_alias=True, exclude_none=isinstance(parameters, Section))
    except PydanticSerializationError:
        values = dict(given)
    return Parameters(dict(given), values, model=parameters)


def _by_engine(  # noqa: PLR0917 - as above
    document: Document, path: Path, known: TypeDescription, name: str, given: Mapping[str, Any], problems: list[Problem]
) -> Parameters | None:
    text = json.dumps(given)
    answer = json.loads(check_plugin(known.name, name, text))
    if "problems" in answer:
        later = LATER_PARAMETERS.get(known.name, frozenset())
        for problem in answer["problems"]:
            below = tuple(problem["path"])
            message = f'"{below[0]}" {NOT_YET}' if len(below) == 1 and below[0] in later else problem["message"]
            problems.append(document.problem((*path, *below), message))
        return None
    references = tuple(Reference(tuple(found["path"]), found["plugin"], found["produces"]) for found in answer["references"])
    deprecated = tuple((tuple(found["path"]), str(found["instead"])) for found in answer["deprecated"])
    given = json.loads(text)
    return Parameters(given, _shown(known.fields, answer["values"], given), references, deprecated)


def _shown(fields: Iterable[Mapping[str, Any]], values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The completed values that a user would write: without absent optional ones, and without deprecated ones that were not given."""
    shown: dict[str, Any] = {}
    for field in fields:
        name = field["name"]
        value, was = values.get(name), given.get(name)
        if value is None or (field["deprecated"] is not None and was is None):
            continue
        shown[name] = _shown_value(field["fields"], value, was)
    return shown


def _shown_value(fields: list[Mapping[str, Any]], value: Any, was: Any) -> Any:
    if not fields:
        return value
    if isinstance(value, dict):
        return _shown(fields, value, was if isinstance(was, dict) else {})
    if isinstance(value, list):
        given = was if isinstance(was, list) else []
        return [_shown_value(fields, element, given[index] if index < len(given) else None) for index, element in enumerate(value)]
    return value


def _ignored_fields(read: Any, given: Any, path: Path) -> Iterator[tuple[Path, type[BaseModel], str]]:
    """What a model inside of a Python plugin's parameters passed over: a misspelled field is as wrong there as anywhere.

    Where, which model, and the field. A model that says itself what to do with fields that it does not know is left to it.
    """
    if isinstance(read, BaseModel) and isinstance(given, Mapping):
        section = type(read)
        by_name = bool(section.model_config.get("populate_by_name") or section.model_config.get("validate_by_name"))
        names = {written: name for name, field in section.model_fields.items() for written in _spellings(name, field, by_name=by_name)}
        if section.model_config.get("extra") is None:
            yield from ((path, section, key) for key in given if key not in names)
        for key, value in given.items():
            if key in names:
                yield from _ignored_fields(getattr(read, names[key]), value, (*path, key))
    elif isinstance(read, Mapping) and isinstance(given, Mapping):
        for key, value in given.items():
            yield from _ignored_fields(read.get(key), value, (*path, key))
    elif isinstance(read, list | tuple) and isinstance(given, list) and len(read) == len(given):
        for index, value in enumerate(given):
            yield from _ignored_fields(read[index], value, (*path, index))


def _spellings(name: str, field: FieldInfo, *, by_name: bool) -> set[str]:
    """The keys under which a field may be written. `by_name`: its own name is one even where it has an alias."""
    alias = field.validation_alias or field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    found = {choice.path[0] if isinstance(choice, AliasPath) else choice for choice in choices}
    spellings = {choice for choice in found if isinstance(choice, str)}
    return spellings | {name} if by_name or not spellings else spellings


def _not_finite(value: Any, path: Path) -> Iterable[tuple[Path, float]]:
    """JSON has no word for infinity and NaN; YAML has."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, (*path, index))
