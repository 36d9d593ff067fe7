"""Policies by name or file, through the same loader as the picker's, as the JSON that the engine decides by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from warmroute import policies as named
from warmroute.config.defaults import resolve
from warmroute.config.document import Document
from warmroute.config.errors import UsageError
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS, parse_flags
from warmroute.config.load import load_config
from warmroute.config.plan import Plan
from warmroute.config.read import Given, read_plan
from warmroute.config.settings import policy_settings
from warmroute.config.trial import try_plan

# What a trace does not have: headers, token ids, media, metrics of other exporters. Such plugins run, and see nothing.
_BLIND = {
    "agent-identity": "request headers",
    "session-id-producer": "request headers",
    "session-affinity-filter": "request headers",
    "session-affinity-scorer": "request headers",
    "header-profile-handler": "request headers",
    "header-label-affinity-scorer": "request headers",
    "header-based-testing-filter": "request headers",
    "precise-prefix-cache-producer": "KV events and token ids",
    "precise-prefix-cache-scorer": "KV events and token ids",
    "mm-embeddings-cache-producer": "media",
    "mm-embeddings-cache-scorer": "media",
    "dcgm-extractor": "GPU metrics",
    "endpoint-attribute-filter": "attributes of endpoints",
    "endpoint-attribute-scorer": "attributes of endpoints",
}


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy as tables call it, and as the engine is told it."""

    name: str
    settings: str
    notices: tuple[str, ...] = ()


def load_policies(given: list[str], *, allow_experimental: bool = False) -> list[NamedPolicy]:
    """Names or files, in order; the same one twice is told apart by its path. Raises UsageError, and ConfigError as `warmroute check` words it."""
    policies: list[NamedPolicy] = []
    for text in given:
        policy = load_policy(text, allow_experimental=allow_experimental)
        if any(other.name == policy.name for other in policies):
            policy = dataclasses.replace(policy, name=text)
        if any(other.name == policy.name for other in policies):
            raise UsageError(f"--policy {text}: given twice")
        policies.append(policy)
    return policies


def load_policy(given: str, *, allow_experimental: bool = False) -> NamedPolicy:
    """A name, or a file: what looks like a path, or is one. Raises UsageError and ConfigError."""
    path = Path(given)
    if given in named.names():
        return _checked(given, read_plan(Given(policy=given)))
    if path.suffix in {".yaml", ".yml", ".json"} or path.exists() or path.name != given:
        return _checked(path.stem, read_plan(Given(file=path, allow_experimental=allow_experimental)))
    raise UsageError(f"--policy {named.unknown(given)}, or name a file")


def policy_of(document: Document, name: str) -> NamedPolicy:
    """The policy of a configuration that came with a recording. Raises UsageError and ConfigError."""
    return _checked(name, resolve(load_config(document, allow_experimental=True), SHORTEST_REFRESH_SECONDS))


def _checked(name: str, plan: Plan) -> NamedPolicy:
    if plan.python_plugins:
        plugin = next(iter(plan.python_plugins))
        raise UsageError(f"--policy {name}: plugin {plugin!r} is written in Python, which cannot be simulated; leave it out of a copy of the file")
    # Sources are not polled here, and their certificate files need not lie on this machine.
    try_plan(dataclasses.replace(plan, sources=()), parse_flags([]))
    types = [plugin.type.name for plugin in plan.plugins]
    blind = [f"{type_name}: no {_BLIND[type_name]} in a simulation, so it sees nothing" for type_name in types if type_name in _BLIND]
    return NamedPolicy(name, policy_settings(plan), (*(str(notice) for notice in plan.notices), *blind))
