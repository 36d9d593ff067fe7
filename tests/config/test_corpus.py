"""Configurations beside what becomes of them: the effective configuration of good ones, the exact errors of bad ones.

`REGENERATE_CONFIG_SNAPSHOTS=1 pytest tests/config` writes the snapshots anew; look at the difference before committing it.
"""

import dataclasses
import itertools
import json
import os
from pathlib import Path

import pytest

from warmroute.config.document import parse_document
from warmroute.config.errors import ConfigError, UsageError
from warmroute.config.flags import parse_flags
from warmroute.config.load import load_config
from warmroute.config.read import Given, read_plan
from warmroute.config.settings import policy_settings, scraper_settings
from warmroute.config.trial import try_plan

CORPUS = Path(__file__).parent / "corpus"
REGENERATE = os.environ.get("REGENERATE_CONFIG_SNAPSHOTS") == "1"
EFFECTIVE = ".effective.yaml"


def files(kind):
    return sorted(path for path in (CORPUS / kind).glob("*.yaml") if not path.name.endswith(EFFECTIVE))


def given(path):
    """What `warmroute check` is given: the file, and the flags that it asks for in a comment."""
    flags = next((line.removeprefix("# flags:").split() for line in path.read_text().splitlines() if line.startswith("# flags:")), [])
    modules = [str(CORPUS / value) for flag, value in itertools.pairwise(flags) if flag == "--plugin-module"]
    return Given(file=path, allow_experimental="--allow-experimental-plugins" in flags, plugin_modules=modules)


def compare(snapshot, text):
    if REGENERATE:
        snapshot.write_text(text)
    assert snapshot.exists(), f"no snapshot; {__doc__}"
    assert text == snapshot.read_text()


def asked_for(plan):
    """All that the engine, the scraper and discovery are told, with every parameter complete."""
    policy = json.loads(policy_settings(plan))
    values = {plugin.name: dict(plugin.parameters.values) for plugin in plan.plugins}
    policy["plugins"] = [{**plugin, "parameters": values[plugin["name"]]} for plugin in policy["plugins"]]
    return policy, scraper_settings(plan, parse_flags([])), plan.discovery, plan.plugin_types, plan.python_plugins


@pytest.mark.parametrize("path", files("good"), ids=lambda path: path.stem)
def test_good_file_comes_to_its_effective_configuration(path):
    plan = read_plan(given(path))
    try_plan(plan, parse_flags([]))
    notices = "".join(f"# warning: {str(notice).removeprefix(f'{path}:')}\n" for notice in plan.notices)
    text = plan.effective.as_yaml()
    compare(path.with_suffix(EFFECTIVE), notices + text)
    # What is printed is a configuration, and comes to itself.
    again = read_plan(dataclasses.replace(given(path), file=None, text=text))
    assert again.effective.data == plan.effective.data
    assert asked_for(again) == asked_for(plan)


@pytest.mark.parametrize("path", files("bad"), ids=lambda path: path.stem)
def test_bad_file_gets_its_errors(path):
    with pytest.raises((ConfigError, UsageError)) as refused:
        try_plan(read_plan(given(path)), parse_flags([]))
    compare(path.with_suffix(".errors.txt"), f"{refused.value}\n".replace(str(path), path.name))


def test_every_snapshot_has_its_file():
    for snapshot in [*CORPUS.glob(f"good/*{EFFECTIVE}"), *CORPUS.glob("bad/*.errors.txt")]:
        assert snapshot.with_name(snapshot.name.partition(".")[0] + ".yaml").exists()


# Every type that the reference's documents name.
DOCUMENTED = Path(__file__).with_name("reference_types.txt").read_text().split()


@pytest.mark.parametrize("type_name", DOCUMENTED)
def test_every_type_of_the_reference_is_known_or_refused_by_name(type_name):
    text = f"apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{{type: {type_name}, parameters: {{no-such-field: 1}}}}]"
    with pytest.raises(ConfigError) as refused:
        load_config(parse_document(text, "x"), allow_experimental=True)
    later = f'x:3: plugins[0].type: plugin type "{type_name}" is known to the reference picker and not supported by this version of warmroute'
    assert str(refused.value).startswith((later, "x:3: plugins[0].parameters"))
