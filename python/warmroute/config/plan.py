"""What a configuration comes to, complete: everything the picker needs to know from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from warmroute.config.effective import Effective
from warmroute.config.load import Plugin
from warmroute.config.notices import Notice
from warmroute.config.plugins import FileDiscovery, MetricsDataSource
from warmroute.plugins.registry import PluginDefinition

# Our own policy rates tokens, to which half a block more or less means nothing, so twice the size halves the index's cost.
OWN_SCORER = "marginal-latency-scorer"
_OWN_BLOCK_TOKENS = 128
# What the reference raises the blocks of its approximate index to.
_REFERENCE_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """A plugin's place in a profile. `weight`: of a scorer, None for others."""

    plugin: Plugin
    weight: float | None


@dataclass(frozen=True, slots=True)
class Profile:
    """One scheduling profile: filters, scorers and a picker, in order."""

    name: str
    entries: tuple[ProfileEntry, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A data source that is polled. `interval`: seconds between polls where it sets its own; None: the base tick."""

    plugin: Plugin
    extractors: tuple[Plugin, ...]
    interval: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the picker needs to know from its configuration."""

    #: The plugins of the policy, configured or added by a rule, each after those whose data it consumes.
    plugins: tuple[Plugin, ...]
    profiles: tuple[Profile, ...]
    #: Empty: no metrics are collected.
    sources: tuple[Source, ...]
    #: Types, in order.
    parsers: tuple[str, ...]
    #: Name of the plugin by which requests that may be shed are refused.
    saturation_detector: str | None
    discovery: FileDiscovery | None
    #: Every plugin, of the policy or not: name to type.
    plugin_types: dict[str, str]
    #: Plugins in Python by name: what was registered, and the parameters where it takes any.
    python_plugins: Mapping[str, tuple[PluginDefinition, BaseModel | None]]
    notices: tuple[Notice, ...]
    effective: Effective

    @property
    def min_block_tokens(self) -> int:
        """Smallest block of the prefix index, in tokens: the reference's where anything but our own scorer rates prefix matches."""
        types = (entry.plugin.type for profile in self.profiles for entry in profile.entries)
        others = any("prefix match" in known.consumes and known.name != OWN_SCORER for known in types)
        return _REFERENCE_BLOCK_TOKENS if others else _OWN_BLOCK_TOKENS

    @property
    def source(self) -> MetricsDataSource | None:
        """The first source of metrics."""
        return next((model for source in self.sources if isinstance(model := source.plugin.parameters.model, MetricsDataSource)), None)
