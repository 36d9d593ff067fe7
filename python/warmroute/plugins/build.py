"""A registered type and its parameters as a plugin that the engine can call."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from warmroute._core import PluginQuestion, PythonPlugin
from warmroute.plugins import answer, worker
from warmroute.plugins.endpoints import Endpoints, PoolView
from warmroute.plugins.registry import PluginDefinition, PluginModuleError
from warmroute.plugins.request import Request


def build(definition: PluginDefinition, name: str, parameters: BaseModel | None, budget_seconds: float) -> PythonPlugin:
    """Start the plugin's thread; it ends when neither an engine nor anybody else has the plugin any more.

    Args:
        definition: the type.
        name: the plugin's name in the configuration.
        parameters: an instance of the type's model; None: the model's defaults, or none where the type has no parameters.
        budget_seconds: how long a decision waits for one call.

    Raises:
        PluginModuleError: the plugin's class cannot be made.
        pydantic.ValidationError: there are no parameters and not all have defaults.

    """
    if parameters is None and definition.parameters is not None:
        parameters = definition.parameters()
    plugin = PythonPlugin(name, definition.role, budget_seconds)
    worker.start(
        name, plugin.work(), _Call(_function(definition, name, parameters), answer.scores if definition.role == "scorer" else answer.verdict)
    )
    return plugin


def _function(definition: PluginDefinition, name: str, parameters: BaseModel | None) -> Callable[[Endpoints, Request], Any]:
    function = definition.function
    if not isinstance(function, type):
        return function if parameters is None else lambda endpoints, request: function(endpoints, request, parameters)
    try:
        made: Callable[[Endpoints, Request], Any] = function() if parameters is None else function(parameters)
    except Exception as error:
        raise PluginModuleError(
            f'plugin "{name}": {function.__name__} of {definition.place} cannot be made: {type(error).__name__}: {error}'
        ) from error
    return made


class _Call:
    """From a question to an answer. Used by one thread only."""

    def __init__(self, function: Callable[[Endpoints, Request], Any], convert: Callable[[Any, int], NDArray[np.float64]]) -> None:
        self._function = function
        self._convert = convert
        self._view: PoolView | None = None

    def __call__(self, question: PluginQuestion) -> NDArray[np.float64]:
        pool = question.pool
        view = self._view
        if view is None or view.pool is not pool:
            view = self._view = PoolView(pool)
        return self._convert(self._function(Endpoints(question, view), Request(question)), question.rows)
