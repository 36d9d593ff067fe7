"""The Python plugins of the configuration in force: what a changed configuration keeps of them, and what it starts anew."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from warmroute._core import PythonPlugin
from warmroute.plugins.registry import PluginDefinition

#: A plugin of the configuration: its type, and its parameters where the type has any.
Configured = tuple[PluginDefinition, BaseModel | None]


@dataclass(frozen=True, slots=True)
class RunningPlugins:
    """Plugins by their names in the configuration; `plugins` is what Engine and Engine.reload take."""

    budget_seconds: float
    configured: Mapping[str, Configured]
    plugins: dict[str, PythonPlugin]

    @classmethod
    def start(cls, configured: Mapping[str, Configured], budget_seconds: float, previous: "RunningPlugins | None" = None) -> "RunningPlugins":
        """Start every plugin; one that `previous` has with the same name, type, parameters and budget is taken over, with what it remembers.

        Plugins that no engine has any more end by themselves.

        Raises:
            PluginModuleError: a plugin's class cannot be made.

        """
        kept = previous if previous is not None and previous.budget_seconds == budget_seconds else cls(budget_seconds, {}, {})
        plugins = {}
        for name, (definition, parameters) in configured.items():
            if kept.configured.get(name) == (definition, parameters):
                plugins[name] = kept.plugins[name]
                continue
            # Numpy is loaded by the first plugin, not by a picker that has none.
            from warmroute.plugins.build import build  # noqa: PLC0415

            plugins[name] = build(definition, name, parameters, budget_seconds)
        return cls(budget_seconds, dict(configured), plugins)
