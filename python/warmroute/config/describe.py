"""Writes down a resolved configuration as its effective form."""

from collections.abc import Sequence
from typing import Any

from warmroute.config.document import Path, render_path
from warmroute.config.effective import Effective, leaves, written
from warmroute.config.feature_gates import gate_places
from warmroute.config.load import Plugin
from warmroute.config.models import API_VERSION, KIND
from warmroute.config.plan import Profile, Source
from warmroute.config.resolution import Resolution

# What has a default of its own inside of something that a rule added; so has the name of a plugin.
_OWN_DEFAULTS = frozenset({"parameters", "weight"})


def describe(resolution: Resolution, *, profiles: Sequence[Profile], sources: Sequence[Source], parsers: Sequence[Plugin]) -> Effective:
    """The effective configuration of what the rules made."""
    gates = resolution.loaded.gates
    places = gate_places(resolution.document)
    for position, name in enumerate(gates):
        resolution.reasons["featureGates", position] = resolution.origin(("featureGates", places[name])) if name in places else "default"
    layer = resolution.config.data_layer
    data_layer: dict[str, Any] = {
        "injectDefaults": layer.inject_defaults if layer is not None else True,
        "sources": [
            {"pluginRef": source.plugin.name, "extractors": [{"pluginRef": extractor.name} for extractor in source.extractors]} for source in sources
        ],
    }
    if layer is not None and layer.discovery is not None:
        data_layer["discovery"] = {"pluginRef": layer.discovery.plugin_ref}
    data: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "featureGates": [f"{name}={str(value).lower()}" for name, value in gates.items()],
        "plugins": [_plugin(plugin) for plugin in resolution.plugins.values()],
        "schedulingProfiles": [_profile(profile) for profile in profiles],
        "dataLayer": data_layer,
        "requestHandler": {"parsers": [{"pluginRef": parser.name} for parser in parsers]},
    }
    detector = resolution.config.saturation_detector
    if detector is not None and detector.plugin_ref is not None:
        data["saturationDetector"] = {"pluginRef": detector.plugin_ref}
    return Effective(resolution.document.source, data, {render_path(path): _origin(resolution, path, value) for path, value in leaves(data)})


def _plugin(plugin: Plugin) -> dict[str, Any]:
    shown: dict[str, Any] = {"type": plugin.type.name, "name": plugin.name}
    if plugin.parameters.values:
        shown["parameters"] = dict(plugin.parameters.values)
    return shown


def _profile(profile: Profile) -> dict[str, Any]:
    entries = [{"pluginRef": entry.plugin.name} | ({"weight": entry.weight} if entry.weight is not None else {}) for entry in profile.entries]
    return {"name": profile.name, "plugins": entries}


def _origin(resolution: Resolution, path: Path, value: Any) -> str:
    if path in resolution.reasons:
        return resolution.reasons[path]
    found = written(resolution.document, path, null=value is None)
    if found is not None:
        return found
    if not _OWN_DEFAULTS & set(path) and (path[0], path[-1]) != ("plugins", "name"):
        for length in range(len(path) - 1, 0, -1):
            if path[:length] in resolution.reasons:
                return resolution.reasons[path[:length]]
    return "default"
