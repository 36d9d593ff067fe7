"""Pydantic's errors in this package's words: where in the document, what is wrong, which name was perhaps meant."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from warmroute.config.document import Document, Path
from warmroute.config.errors import Problem, nearest

NOT_YET = "is known to the reference picker and not supported by this version of warmroute"


def section_problems(document: Document, error: ValidationError, base: Path, section: type[BaseModel], later: frozenset[str]) -> list[Problem]:
    """The errors of a section that stands at `base`. `later`: fields that come with another version."""
    problems = []
    for detail in error.errors(include_url=False, include_input=True):
        path: Path = (*base, *detail["loc"])
        kind = detail["type"]
        if kind == "extra_forbidden":
            field = str(detail["loc"][-1])
            message = f'"{field}" {NOT_YET}' if field in later else unknown_field(field, _fields_at(section, detail["loc"][:-1]))
        elif kind == "value_error":
            message = str(detail["ctx"]["error"])
        else:
            message = _in_words(kind, detail.get("ctx", {}), detail["msg"])
            if kind != "missing" and isinstance(detail["input"], str | int | float):
                message += f", not {json.dumps(detail['input'])}"
        problems.append(document.problem(path, message))
    return problems


# Pydantic's kinds of errors in the words that the engine uses for its own parameters; the rest keeps pydantic's.
_WORDS = {
    "missing": "required and missing",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "finite_number": "must be a finite number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} character{s}",
    "string_too_long": "must have at most {max_length} characters",
}


def _in_words(kind: str, context: Mapping[str, Any], otherwise: str) -> str:
    words = _WORDS.get(kind)
    context = {**context, "s": "" if context.get("min_length") == 1 else "s"}
    return f"{otherwise[0].lower()}{otherwise[1:]}" if words is None else words.format_map(context).replace("'", '"')


def unknown_field(field: str, known: Iterable[str]) -> str:
    """What is said of a field that does not exist; `known`: those that do."""
    names = list(known)
    if not names:
        return f'unknown field "{field}" (nothing can be set here)'
    hint = nearest(field, names) or f" (known: {', '.join(names)})"
    return f'unknown field "{field}"{hint}'


def field_names(section: type[BaseModel]) -> list[str]:
    """The fields of a section as a document spells them."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _fields_at(section: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """The field names that the section at `location` (below `section`) knows."""
    for part in location:
        if isinstance(part, int):
            continue
        field = next((field for name, field in section.model_fields.items() if part in {field.alias, name}), None)
        if field is None:
            continue  # The key of a mapping of sections, or the class that was tried of several.
        found = _section_in(field.annotation)
        if found is None:
            return []
        section = found
    return field_names(section)


def _section_in(annotation: object) -> type[BaseModel] | None:
    """The section class inside an annotation such as `list[SourceRef] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _section_in(argument)
        if found is not None:
            return found
    return None
