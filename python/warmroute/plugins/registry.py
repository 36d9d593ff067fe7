"""The plugin types written in Python: registered by the decorators `scorer` and `filter`, found by the type that a configuration names."""

import builtins
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import sys
import traceback
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from warmroute.config.errors import UsageError

ENTRY_POINTS = "warmroute.plugins"
Role = Literal["scorer", "filter"]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_ARGUMENTS = ("endpoints", "request")


class PluginModuleError(UsageError):
    """A module of plugins that cannot be used; the message tells which, where and what to change."""


@dataclass(frozen=True, slots=True)
class PluginDefinition:
    """A type of plugin. `function` is called with endpoints, request and, where `parameters` is a model, an instance of it.

    A class stands for state: each plugin of the configuration gets an object of it, made with its parameters, and the object is called.
    """

    type: str
    role: Role
    function: Callable[..., Any]
    #: Refuses fields that it does not know.
    parameters: builtins.type[BaseModel] | None
    #: First line of the function's docstring.
    summary: str
    #: Module that brought it, and its file where it has one.
    module: str
    file: str | None = None

    @property
    def place(self) -> str:
        """Where it comes from, for people."""
        return self.file or self.module


_definitions: dict[str, PluginDefinition] = {}
_loaded: dict[str, tuple[PluginDefinition, ...]] = {}


def scorer(type_name: str) -> Callable[[_Function], _Function]:
    """Make a function, or a class with `__call__`, a scorer: it returns one number an endpoint, best 1, worst 0 (others are clamped, NaN counts 0).

    Args:
        type_name: what `type:` of a configuration says, such as "cheap-zone-scorer".

    """
    return _decorator(type_name, "scorer")


def filter(type_name: str) -> Callable[[_Function], _Function]:  # noqa: A001 -- named by what it makes, beside `scorer`
    """Make a function, or a class with `__call__`, a filter: it returns one boolean an endpoint, False to drop it.

    Args:
        type_name: what `type:` of a configuration says, such as "spot-instance-filter".

    """
    return _decorator(type_name, "filter")


def find(type_name: str) -> PluginDefinition | None:
    """The registered type of that name."""
    return _definitions.get(type_name)


def registered() -> tuple[PluginDefinition, ...]:
    """All registered types, by name."""
    return tuple(_definitions[name] for name in sorted(_definitions))


def load_entry_points() -> tuple[PluginDefinition, ...]:
    """Load what installed packages offer in the entry point group `warmroute.plugins`: modules or decorated functions.

    Raises:
        PluginModuleError: one of them cannot be used.

    """
    found: list[PluginDefinition] = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        package = entry.dist.name if entry.dist is not None else "an installed package"
        found += _load(f"entry point {entry.name} = {entry.value} of {package}", entry.value, entry.load)
    return tuple(found)


def load_module(name_or_path: str) -> tuple[PluginDefinition, ...]:
    """Load plugins from a dotted module or from a `.py` file; one that was loaded already is not run again.

    Raises:
        PluginModuleError: there is no such module or file, it raises at import, it holds no plugin, or a type is taken.

    """
    if name_or_path.endswith(".py") or "/" in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise PluginModuleError(f"plugin module {name_or_path}: there is no such file")
        return _load(f"plugin module {name_or_path}", str(path.resolve()), lambda: _run_file(path.resolve()))
    return _load(f"plugin module {name_or_path}", name_or_path, lambda: importlib.import_module(name_or_path))


def _load(source: str, key: str, bring: Callable[[], object]) -> tuple[PluginDefinition, ...]:
    if key in _loaded:
        return _loaded[key]
    before = dict(_definitions)
    try:
        loaded = bring()
    except (Exception, SystemExit) as error:
        # A script that ends itself must not end the picker without a word.
        _restore(before)
        raise PluginModuleError(f"{source}: {_describe_failure(error, key)}") from error
    found = tuple(
        definition
        for definition in _definitions.values()
        if definition.type not in before or loaded is definition.function or (isinstance(loaded, ModuleType) and definition.module == loaded.__name__)
    )
    if not found:
        raise PluginModuleError(f"{source}: no plugin is in it; decorate a function with @scorer(...) or @filter(...) of warmroute.plugins")
    _loaded[key] = found
    return found


def _restore(before: dict[str, PluginDefinition]) -> None:
    _definitions.clear()
    _definitions.update(before)


def _run_file(path: Path) -> ModuleType:
    name = f"warmroute_plugin_{path.stem}"
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginModuleError("not a Python file (its name must end with .py)")
    module = importlib.util.module_from_spec(spec)
    # Annotations are looked up in the module by its name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _describe_failure(error: Exception | SystemExit, key: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name is not None and (key == error.name or key.startswith(f"{error.name}.")):
        return f"there is no module {error.name!r}; install it, put its folder on PYTHONPATH, or give the path of its .py file"
    text = str(error) if isinstance(error, PluginModuleError) else f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and frame.filename not in {__file__, importlib.__file__}]
    if not own:
        return text
    # The innermost line of the module itself, where there is one: what it called is seldom what is wrong.
    frame = next((frame for frame in reversed(own) if frame.filename == key), own[-1])
    return f"line {frame.lineno}{'' if frame.filename == key else f' of {frame.filename}'}: {text}"


def _decorator(type_name: str, role: Role) -> Callable[[_Function], _Function]:
    if not isinstance(type_name, str) or not type_name:
        raise PluginModuleError(f'@{role} needs the name of the type: @{role}("my-{role}")')

    def register(function: _Function) -> _Function:
        known = _definitions.get(type_name)
        if known is not None:
            raise PluginModuleError(f'the plugin type "{type_name}" is registered already by {known.place}; choose another name')
        if type_name in _built_in():
            raise PluginModuleError(f'the plugin type "{type_name}" is one of those built in; choose another name')
        code = function.__init__ if inspect.isclass(function) else function
        _definitions[type_name] = PluginDefinition(
            type_name,
            role,
            function,
            _parameters(type_name, function),
            (inspect.getdoc(function) or "").partition("\n")[0].strip(),
            function.__module__,
            getattr(getattr(code, "__code__", None), "co_filename", None),
        )
        return function

    return register


@functools.cache
def _built_in() -> frozenset[str]:
    # Asked when the first plugin registers: a picker without any never needs it here.
    from warmroute._core import plugin_kinds  # noqa: PLC0415
    from warmroute.config.plugins import PLUGIN_TYPES  # noqa: PLC0415

    kinds = json.loads(plugin_kinds())
    return frozenset([*PLUGIN_TYPES, *(kind["type"] for kind in kinds["types"]), *kinds["aliases"]])


def _parameters(type_name: str, function: Callable[..., Any]) -> type[BaseModel] | None:
    """The model that the signature asks for, refusing unknown fields; None where it asks for none."""
    if inspect.isclass(function):
        if "__call__" not in dir(function):
            raise PluginModuleError(f'"{type_name}": the class {function.__name__} has no __call__(self, endpoints, request)')
        called = function.__call__
        _check_arguments(type_name, list(inspect.signature(called).parameters.values())[1:], len(_ARGUMENTS))
        code = function.__init__
        extra = list(inspect.signature(function).parameters.values())
    else:
        called = code = function
        given = list(inspect.signature(function).parameters.values())
        _check_arguments(type_name, given, len(_ARGUMENTS) + 1)
        extra = given[len(_ARGUMENTS) :]
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise PluginModuleError(f'"{type_name}": must return its answer; a function with async or yield returns before it has worked')
    if not extra:
        return None
    if len(extra) > 1:
        raise PluginModuleError(f'"{type_name}": takes {_list(extra)}; only one argument for parameters is given to it')
    name = extra[0].name
    try:
        annotation = typing.get_type_hints(code).get(name)
    except NameError as error:
        raise PluginModuleError(f'"{type_name}": an annotation cannot be resolved: {error}') from error
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise PluginModuleError(f'"{type_name}": annotate the argument {name!r} with a class derived from pydantic.BaseModel')
    return _strict(annotation)


def _check_arguments(type_name: str, given: list[inspect.Parameter], most: int) -> None:
    positional = [one for one in given if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]
    if not len(_ARGUMENTS) <= len(positional) <= most or len(positional) != len(given):
        wanted = "(endpoints, request) or (endpoints, request, parameters)" if most > len(_ARGUMENTS) else "(endpoints, request)"
        raise PluginModuleError(f'"{type_name}": must take {wanted}, not ({_list(given)})')


def _list(parameters: Iterable[inspect.Parameter]) -> str:
    return str(inspect.Signature([one.replace(annotation=one.empty) for one in parameters]))[1:-1]


def _strict(model: type[BaseModel]) -> type[BaseModel]:
    """The model itself where it says what to do with unknown fields, else one that refuses them."""
    if model.model_config.get("extra") is not None:
        return model
    namespace = {
        "__module__": model.__module__,
        "__doc__": model.__doc__,
        "__qualname__": model.__qualname__,
        "model_config": ConfigDict(extra="forbid"),
    }
    return type(model.__name__, (model,), namespace)
