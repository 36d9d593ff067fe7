"""Feature gates: `name`, `name=true` or `name=false`."""

from warmroute.config.document import Document
from warmroute.config.errors import Problem, nearest
from warmroute.config.quantities import parse_bool
from warmroute.config.sections import NOT_YET

#: Every gate of the reference and its default.
GATES = {"flowControl": False, "haPopulateNonLeaderDatastore": True}
_LATER = frozenset({"flowControl"})
#: Gates that change nothing here, and why.
WITHOUT_EFFECT = {"haPopulateNonLeaderDatastore": "it is about standbys, which come with leader election"}


def check_gates(document: Document, problems: list[Problem]) -> dict[str, bool]:
    """Every gate with its value. What is no list of strings is told by the check of the sections."""
    gates = dict(GATES)
    for index, name, value in _written(document):
        path = ("featureGates", index)
        if name not in GATES:
            hint = nearest(name, GATES) or f" (known: {', '.join(GATES)})"
            problems.append(document.problem(path, f'unknown feature gate "{name}"{hint}'))
            continue
        try:
            gates[name] = parse_bool(value)
        except ValueError as error:
            problems.append(document.problem(path, str(error)))
            continue
        if gates[name] and name in _LATER:
            problems.append(document.problem(path, f'feature gate "{name}" {NOT_YET}'))
    return gates


def gate_places(document: Document) -> dict[str, int]:
    """In which entry of the document a gate got its value."""
    return {name: index for index, name, _ in _written(document)}


def _written(document: Document) -> list[tuple[int, str, str]]:
    entries = document.data.get("featureGates")
    found = []
    for index, text in enumerate(entries if isinstance(entries, list) else []):
        if isinstance(text, str):
            name, equals, value = text.partition("=")
            found.append((index, name.strip(), value.strip().lower() if equals else "true"))
    return found
