"""From where a configuration is given to the plan that the picker runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from warmroute import policies
from warmroute.config.defaults import default_plan, resolve
from warmroute.config.document import parse_document, read_document
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS
from warmroute.config.load import load_config
from warmroute.config.plan import Plan
from warmroute.plugins import registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A file, or text, or neither: then a policy by its name. `plugin_modules`: modules or files with plugins in Python. `tick`: base scrape interval in seconds."""

    file: Path | None = None
    text: str = ""
    policy: str = policies.DEFAULT
    allow_experimental: bool = False
    plugin_modules: Iterable[str] = ()
    tick: float = SHORTEST_REFRESH_SECONDS


def read_plan(given: Given) -> Plan:
    """Load the plugin modules, then read, check and complete the configuration. Raises UsageError and ConfigError."""
    for module in given.plugin_modules:
        registry.load_module(module)
    if given.file is not None:
        document = read_document(given.file)
    elif given.text:
        document = parse_document(given.text, "--config-text")
    else:
        return default_plan(given.policy)
    return resolve(load_config(document, allow_experimental=given.allow_experimental), given.tick)
