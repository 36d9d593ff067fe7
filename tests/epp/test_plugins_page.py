"""`warmroute plugins`, and docs/plugins.md which it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from warmroute.config.catalogue import EXTENSION_POINTS, Entry, catalogue
from warmroute.config.catalogue_page import flat, page
from warmroute.config.known_types import find_type

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"
MODULE = """\
from pydantic import BaseModel, Field
from warmroute.plugins import filter


class Parameters(BaseModel):
    zones: list[str] = Field(min_length=1, description="Zones that may be used.")
    patience: float = Field(default=0.5, gt=0, lt=10, description="How long.", json_schema_extra={"unit": "s"})


@filter("cheap-zone-filter")
def cheap(endpoints, request, parameters: Parameters):
    '''Only endpoints in cheap zones.'''
"""


def built_in() -> tuple[Entry, ...]:
    """Without plugins in Python that other tests have loaded into this process."""
    return tuple(entry for entry in catalogue() if entry.module is None)


def run(*arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "warmroute", "plugins", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def test_page_in_docs_is_what_the_code_says():
    assert PAGE.read_text() == page(built_in()), "write it again: warmroute plugins --output markdown > docs/plugins.md"


@pytest.mark.parametrize("entry", built_in(), ids=lambda entry: entry.type)
def test_every_type_and_parameter_is_documented(entry):
    assert entry.summary.endswith("."), entry.summary
    assert set(entry.roles) <= set(EXTENSION_POINTS)
    for name, parameter in flat(entry.parameters):
        assert parameter.summary.endswith("."), f"{entry.type}: {name}"
        assert "any value" not in parameter.expected, f"{entry.type}: {name}"
        # A number without a unit says in its summary what it counts; one that is a time, a size or a rate needs one.
        if name.endswith(("Ms", "Seconds")) and parameter.expected.startswith("a "):
            assert parameter.unit, f"{entry.type}: {name}"
    # What the list shows is what a configuration may name.
    assert find_type(entry.type) is not None


def test_list_shows_types_by_extension_point_and_one_type_shows_its_parameters():
    text = run()
    places = [text.index(f"\n{role} ") for role in ("data source", "filter", "scorer", "picker")]
    assert places == sorted(places)
    assert "`warmroute plugins TYPE`" in text

    text = run("prefix-cache-scorer")
    assert "consumes: prefix match" in text
    line = next(line for line in text.splitlines() if line.startswith("matchLengthScaleTokens"))
    assert line.split()[1:10] == ["a", "whole", "number", "of", "at", "least", "1", "8192", "tokens"]
    assert "also called: by-label-selector" in run("by-label-selector")
    assert "It has no parameters." in run("queue-scorer")

    assert json.loads(run("queue-scorer", "--output", "json"))["roles"] == ["scorer"]
    documents = json.loads(run("--output", "json"))
    assert [document["type"] for document in documents] == [entry.type for entry in built_in()]
    assert run("--output", "markdown") == page(built_in())


def test_unknown_type_is_refused_with_the_nearest():
    assert (
        run("quue-scorer", status=2)
        == 'warmroute plugins: there is no plugin type "quue-scorer" (did you mean "queue-scorer"?); `warmroute plugins` lists all\n'
    )


def test_plugins_in_python_are_listed_like_the_others(tmp_path):
    module = tmp_path / "cheap.py"
    module.write_text(MODULE)
    document = json.loads(run("cheap-zone-filter", "--output", "json", f"--plugin-module={module}"))
    assert (document["roles"], document["summary"], document["module"]) == (["filter"], "Only endpoints in cheap zones.", str(module))
    assert [(field["name"], field["expected"], field["required"], field["default"], field["unit"]) for field in document["parameters"]] == [
        ("zones", "a list of strings", True, None, ""),
        ("patience", "a number above 0 and below 10", False, 0.5, "s"),
    ]
    assert "there is no such file" in run("--plugin-module=missing.py", status=2)
