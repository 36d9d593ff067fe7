"""Named policies: each is a file here, an ordinary EndpointPickerConfig that a user can copy and change."""

from functools import cache
from importlib.resources import files

from warmroute.config.document import Document, parse_document
from warmroute.config.errors import UsageError, nearest

__all__ = ["DEFAULT", "document", "names", "text", "unknown"]

#: What runs where nothing is configured.
DEFAULT = "marginal-latency"

_SUFFIX = ".yaml"


@cache
def names() -> tuple[str, ...]:
    """Every policy, the default first, the others by name."""
    found = {file.name.removesuffix(_SUFFIX) for file in files(__name__).iterdir() if file.name.endswith(_SUFFIX)}
    return (DEFAULT, *sorted(found - {DEFAULT}))


def text(name: str) -> str:
    """The policy's file. Raises UsageError, with the nearest name, where there is none."""
    # Not by whether the file can be read: a name is no path.
    if name not in names():
        raise UsageError(unknown(name))
    return files(__name__).joinpath(f"{name}{_SUFFIX}").read_text(encoding="utf-8")


def document(name: str) -> Document:
    """The policy as a configuration, named by its file. Raises UsageError, with the nearest name, where there is none."""
    return parse_document(text(name), f"{name}{_SUFFIX}")


def unknown(name: str) -> str:
    """What is said of a name that no policy has."""
    return f"{name!r} is no policy{nearest(name, names())}; there are {', '.join(names())}"
