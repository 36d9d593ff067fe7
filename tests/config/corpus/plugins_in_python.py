"""Plugins that files of the corpus name."""

from pydantic import BaseModel, Field

from warmroute.plugins import filter as filter_plugin
from warmroute.plugins import scorer


class Zone(BaseModel):
    """A zone and what it costs."""

    price: float = 1.0
    names: list[str] = []


class Temperature(BaseModel):
    """How much to prefer the first."""

    zone: Zone | None = None
    zones: list[Zone] = []
    by_name: dict[str, Zone] = {}
    temperature: float = Field(default=1.0, gt=0)
    label: str | None = "zone"


@scorer("corpus-scorer")
def first(endpoints, request, parameters: Temperature):
    """Prefer the first endpoint."""
    return [parameters.temperature, *[0.0] * (len(endpoints) - 1)]


@filter_plugin("corpus-filter")
def everything(endpoints, request):
    """Keep all endpoints."""
    return [True] * len(endpoints)
