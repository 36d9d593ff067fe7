"""How plugins get known: decorators, modules, files, entry points, and what is said when they cannot be used."""

import importlib.metadata
import sys

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from warmroute.plugins import PluginModuleError, filter, registry, scorer  # noqa: A004

GOOD = '''
from pydantic import BaseModel
from warmroute.plugins import Endpoints, Request, filter, scorer

class Parameters(BaseModel):
    temperature: float = 1.0

@scorer("file-scorer")
def first(endpoints: Endpoints, request: Request, parameters: Parameters):
    """Rates by file.

    More words.
    """

@filter("file-filter")
class Second:
    """Drops by file."""

    def __init__(self, settings: "Parameters"):
        self.settings = settings

    def __call__(self, endpoints, request):
        return endpoints.queue < self.settings.temperature
'''


def write(tmp_path, text, name="my_plugin.py"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_file_brings_its_types_once(tmp_path):
    path = write(tmp_path, GOOD)
    found = registry.load_module(path)
    assert [(one.type, one.role, one.summary, one.file) for one in found] == [
        ("file-scorer", "scorer", "Rates by file.", path),
        ("file-filter", "filter", "Drops by file.", path),
    ]
    assert registry.load_module(path) is found
    assert [registry.find(one.type) for one in found] == list(found)
    assert set(found) <= set(registry.registered())
    for one in found:
        assert one.parameters is not None
        assert one.parameters.model_validate({"temperature": 2}).model_dump() == {"temperature": 2.0}
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            one.parameters.model_validate({"temprature": 2})


def test_a_module_by_its_dotted_name_and_two_files_of_one_name(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", "", "__init__.py")
    write(tmp_path / "package", GOOD, "plugins.py")
    monkeypatch.syspath_prepend(tmp_path)
    found = registry.load_module("package.plugins")
    assert [one.module for one in found] == ["package.plugins"] * 2
    # One that was imported by someone else already is found as well.
    registry._loaded.clear()
    assert registry.load_module("package.plugins") == found
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", GOOD.replace("file-", "other-"), "plugins.py")
    assert {one.type for one in registry.load_module(other)} == {"other-scorer", "other-filter"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy as np\nx = 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("def f(:\n", "line 1: SyntaxError: invalid syntax"),
        ("import no_such_thing\n", "line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def f(): raise KeyError('k')\n\nf()\n", "line 1: KeyError: 'k'"),
        ("import sys\n\nsys.exit(3)\n", "line 3: SystemExit: 3"),
        (
            GOOD.replace("def first", "async def first"),
            'line 8: "file-scorer": must return its answer; a function with async or yield returns before it has worked',
        ),
        (
            GOOD.replace('    """\n\n@filter', '    """\n    yield 1\n\n@filter'),
            'line 8: "file-scorer": must return its answer; a function with async or yield returns before it has worked',
        ),
        (
            GOOD.replace("def __call__", "async def __call__"),
            'line 15: "file-filter": must return its answer; a function with async or yield returns before it has worked',
        ),
        (
            GOOD.replace("request: Request, parameters", "request: Request, *, parameters"),
            'line 8: "file-scorer": must take (endpoints, request) or (endpoints, request, parameters), not (endpoints, request, *, parameters)',
        ),
        (GOOD + GOOD.replace("first", "again"), 'line 31: the plugin type "file-scorer" is registered already by {path}; choose another name'),
        (GOOD.replace("file-scorer", "queue-scorer"), 'line 8: the plugin type "queue-scorer" is one of those built in; choose another name'),
        *(
            (GOOD.replace("file-scorer", name), f'line 8: the plugin type "{name}" is one of those built in; choose another name')
            # Not of the engine's policy, and taken all the same.
            for name in ("passthrough-parser", "metrics-data-source", "core-metrics-extractor", "file-discovery")
        ),
        (
            GOOD.replace(", parameters: Parameters", ", parameters"),
            "line 8: \"file-scorer\": annotate the argument 'parameters' with a class derived from pydantic.BaseModel",
        ),
        (
            GOOD.replace(": Parameters)", ": dict)"),
            "line 8: \"file-scorer\": annotate the argument 'parameters' with a class derived from pydantic.BaseModel",
        ),
        (GOOD.replace('"Parameters"', '"Params"'), "line 15: \"file-filter\": an annotation cannot be resolved: name 'Params' is not defined"),
        (
            GOOD.replace("endpoints: Endpoints, request: Request, parameters: Parameters", "endpoints"),
            'line 8: "file-scorer": must take (endpoints, request) or (endpoints, request, parameters), not (endpoints)',
        ),
        (GOOD.replace("(self, endpoints, request)", "(self, endpoints)"), 'line 15: "file-filter": must take (endpoints, request), not (endpoints)'),
        (GOOD.replace("__call__", "call"), 'line 15: "file-filter": the class Second has no __call__(self, endpoints, request)'),
        (
            "from warmroute.plugins import scorer\n@scorer\ndef f(endpoints, request): ...\n",
            'line 2: @scorer needs the name of the type: @scorer("my-scorer")',
        ),
    ],
)
def test_a_file_that_cannot_be_used_leaves_nothing_behind(tmp_path, text, said):
    before = registry.registered()
    path = write(tmp_path, text)
    with pytest.raises(PluginModuleError) as caught:
        registry.load_module(path)
    assert str(caught.value) == f"plugin module {path}: {said.replace('{path}', path)}"
    assert registry.registered() == before
    assert not any(getattr(module, "__file__", None) == path for module in list(sys.modules.values()))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./no/such.py", "plugin module ./no/such.py: there is no such file"),
        (
            "nowhere.plugins",
            "plugin module nowhere.plugins: there is no module 'nowhere'; install it, put its folder on PYTHONPATH, or give the path of its .py file",
        ),
        ("json", "plugin module json: no plugin is in it; decorate a function with @scorer(...) or @filter(...) of warmroute.plugins"),
    ],
)
def test_a_module_that_is_not_there(name, said):
    with pytest.raises(PluginModuleError) as caught:
        registry.load_module(name)
    assert str(caught.value) == said


def test_entry_points_name_modules_or_functions(tmp_path, monkeypatch):
    write(tmp_path, GOOD, "installed.py")
    write(tmp_path, GOOD.replace("file-", "lone-"), "lone.py")
    write(tmp_path, "raise RuntimeError('broken')\n", "broken.py")
    monkeypatch.syspath_prepend(tmp_path)

    def install(**values):
        entries = [importlib.metadata.EntryPoint(name, value, registry.ENTRY_POINTS) for name, value in values.items()]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries if group == registry.ENTRY_POINTS else [])

    install(all="installed", one="lone:first")
    assert [one.type for one in registry.load_entry_points()] == ["file-scorer", "file-filter", "lone-scorer", "lone-filter"]
    assert len(registry.load_entry_points()) == 4
    install(bad="broken")
    with pytest.raises(PluginModuleError) as caught:
        registry.load_entry_points()
    assert str(caught.value) == f"entry point bad = broken of an installed package: line 1 of {tmp_path}/broken.py: RuntimeError: broken"


def test_a_model_that_says_what_to_do_with_unknown_fields_is_left_as_it_is():
    class Parameters(BaseModel):
        model_config = ConfigDict(extra="ignore")
        share: float = Field(0.5, ge=0, le=1)

    @scorer("lenient")
    def lenient(endpoints, request, parameters: Parameters):
        return endpoints.queue

    @filter("plain")
    def plain(endpoints, request):
        return endpoints.queue > 0

    assert (registry.find("lenient").parameters, registry.find("plain").parameters) == (Parameters, None)
    assert lenient.__name__ == "lenient"
