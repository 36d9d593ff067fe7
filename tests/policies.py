"""Policies of the engine, for tests that make one without a configuration file."""

import json
from typing import Any

# The reference suite's own configuration: four scorers of weight 1.
SCORERS = ("queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer", "lora-affinity-scorer")


def policy(*plugins: dict[str, Any], **fields: Any) -> str:
    """A policy of one profile with these plugins, else with the suite's own: `weight` makes a plugin part of the profile (None: without a weight)."""
    specs = plugins or tuple({"type": name, "weight": 1} for name in SCORERS)
    entries = [{"plugin": spec.get("name", spec["type"]), "weight": spec["weight"]} for spec in specs if "weight" in spec]
    types = [{key: value for key, value in spec.items() if key != "weight"} for spec in specs]
    return json.dumps({"plugins": types, "profiles": [{"name": "default", "plugins": entries}]} | fields)
