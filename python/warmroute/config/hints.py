"""What is said of the name of a plugin that there is not."""

from collections.abc import Collection

from warmroute.config.errors import nearest
from warmroute.config.known_types import TypeDescription, find_type, known_names


def unknown_plugin(name: str, known: Collection[str], roles: Collection[str] = (), produces: str | None = None) -> str:
    """`known`: the plugins that could stand there. `roles`, `produces`: what one has to be, of which there may be types that nobody configured."""

    def fits(described: TypeDescription | None) -> bool:
        return described is not None and (described.produces == produces if produces is not None else bool(set(roles) & set(described.roles)))

    message = f'no plugin is named "{name}"'
    described = find_type(name)
    if fits(described):
        # One that makes the same may be there under a name of its own.
        others = f", or name {' or '.join(sorted(known))}" if produces is not None and known else ""
        return f"{message} (it is a type: add `- type: {name}` to plugins{others})"
    if described is not None and name not in known:
        return f"{message} (it is a type of {described.role_text}, which has no place here)"
    types = {other for other in known_names() if fits(find_type(other))}
    if hint := nearest(name, {*known, *types}):
        return message + hint
    return f"{message} (known: {', '.join(sorted(known))})" if known else message
