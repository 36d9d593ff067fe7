"""Pydantic's errors in this package's words: where in the document, what is wrong, which name was perhaps meant."""

from collections.abc import Iterable

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
        elif kind == "missing":
            message = "required and missing"
        elif kind == "literal_error":
            message = f"must be {detail['ctx']['expected']}, not {detail['input']!r}"
        elif kind == "value_error":
            message = str(detail["ctx"]["error"])
        elif kind == "model_type":
            message = f"must be an object, not {detail['input']!r}"
        else:
            text = detail["msg"]
            message = f"{text[0].lower()}{text[1:]}"
            if isinstance(detail["input"], str | int | float):
                message += f", not {detail['input']!r}"
        problems.append(document.problem(path, message))
    return problems


def unknown_field(field: str, known: Iterable[str], whose: str = "") -> str:
    """What is said of a field that does not exist."""
    names = list(known)
    hint = nearest(field, names)
    if not hint and whose and not names:
        hint = f" ({whose} has no parameters)"
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
        found = _section_in(field.annotation) if field is not None else None
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
