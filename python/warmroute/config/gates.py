"""Feature gates: `name`, `name=true` or `name=false`."""

from warmroute.config.errors import nearest
from warmroute.config.quantities import parse_bool
from warmroute.config.resolution import Resolution
from warmroute.config.sections import NOT_YET

#: Every gate of the reference and its default.
GATES = {"flowControl": False, "haPopulateNonLeaderDatastore": True}
_LATER = frozenset({"flowControl"})


def resolve_gates(resolution: Resolution) -> dict[str, bool]:
    """Every gate with its value."""
    gates = dict(GATES)
    lines: dict[str, int] = {}
    for index, text in enumerate(resolution.config.feature_gates):
        path = ("featureGates", index)
        name, _, value = text.partition("=")
        name = name.strip()
        if name not in GATES:
            resolution.problem(path, f'unknown feature gate "{name}"{nearest(name, GATES) or _known()}')
            continue
        try:
            gates[name] = parse_bool(value.strip().lower()) if "=" in text else True
        except ValueError as error:
            resolution.problem(path, str(error))
        if gates[name] and name in _LATER:
            resolution.problem(path, f'feature gate "{name}" {NOT_YET}')
        lines[name] = index
    for position, name in enumerate(gates):
        resolution.reasons["featureGates", position] = resolution.origin(("featureGates", lines[name])) if name in lines else "default"
    return gates


def _known() -> str:
    return f" (known: {', '.join(GATES)})"
