"""Plugins written in Python: a scorer or a filter is a function over numpy arrays, one row an endpoint. `docs/python-plugins.md` is the way in."""

from typing import TYPE_CHECKING, Any

from warmroute.plugins.registry import PluginModuleError, filter, scorer  # noqa: A004 -- named by what it makes

if TYPE_CHECKING:
    from warmroute.plugins.endpoints import Endpoints
    from warmroute.plugins.request import Request

__all__ = ["Endpoints", "PluginModuleError", "Request", "filter", "scorer"]


def __getattr__(name: str) -> Any:
    # Numpy is loaded by who writes a plugin, not by a picker that has none.
    if name == "Endpoints":
        from warmroute.plugins.endpoints import Endpoints  # noqa: PLC0415

        return Endpoints
    if name == "Request":
        from warmroute.plugins.request import Request  # noqa: PLC0415

        return Request
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
