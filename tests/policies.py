"""Policies of the engine for tests: each an EndpointPickerConfig that goes the way of a user's file, through the loader and its defaulting rules."""

import json
from typing import Any

from warmroute.config.defaults import resolve
from warmroute.config.document import parse_document
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS
from warmroute.config.load import load_config
from warmroute.config.settings import policy_settings

#: The configuration of the reference's hermetic suite (§11.1); pods are fed their metrics, so its mock source of metrics is left out.
REFERENCE = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: lora-affinity-scorer
- type: openai-parser
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 1}
  - {pluginRef: kv-cache-utilization-scorer, weight: 1}
  - {pluginRef: prefix-cache-scorer, weight: 1}
  - {pluginRef: lora-affinity-scorer, weight: 1}
requestHandler:
  parsers:
  - pluginRef: openai-parser
"""


def loaded(text: str) -> str:
    """What the engine is told of this configuration; alpha plugins may be in it."""
    document = parse_document(text, "test")
    return policy_settings(resolve(load_config(document, allow_experimental=True), SHORTEST_REFRESH_SECONDS))


def policy(*plugins: dict[str, Any], parsers: tuple[str, ...] = ()) -> str:
    """One profile with these plugins: `weight` makes a plugin part of the profile (None: without a weight). No `parsers`: the default ones."""
    types = [{key: value for key, value in spec.items() if key != "weight"} for spec in plugins]
    entries = [
        {"pluginRef": spec.get("name", spec["type"])} | ({} if spec["weight"] is None else {"weight": spec["weight"]})
        for spec in plugins
        if "weight" in spec
    ]
    document: dict[str, Any] = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [*types, *({"type": parser} for parser in parsers)],
        "schedulingProfiles": [{"name": "default", "plugins": entries}],
    }
    if parsers:
        document["requestHandler"] = {"parsers": [{"pluginRef": parser} for parser in parsers]}
    return loaded(json.dumps(document))
