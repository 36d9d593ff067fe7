"""What is asked for wrongly is told in one clear line, with exit status 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer.testing import Result

pytestmark = pytest.mark.usefixtures("known")

IN_PYTHON = """
from warmroute.plugins import scorer


@scorer("replay-test-scorer")
def score(endpoints, request):
    return [1.0 for _ in endpoints]
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a trace"),
        (["conv9"], "no trace file and no workload 'conv9' (did you mean \"conv8\"?)"),
        (["missing.jsonl"], "missing.jsonl: No such file or directory"),
        (["empty.jsonl"], "empty.jsonl: no requests in it"),
        (["bad.jsonl"], "bad.jsonl: line 2: no JSON"),
        (["packed.jsonl"], "packed.jsonl: no UTF-8 text at byte 0"),
        (["conv8"], "conversation_trace.jsonl is not in the current folder; get it from https://"),
        (["rand8", "--load", "0.5,x"], "--load 0.5,x: x is no number above 0"),
        (["rand8", "--load", "0"], "--load 0: 0 is no number above 0"),
        (["rand8", "--rate", "10,"], "--rate 10,: nothing is no number above 0"),
        (["rand8", "--rate", "10", "--load", "0.5"], "--rate excludes --load"),
        (["rand8", "--capacity", "-1"], "--capacity -1: above 0"),
        (["rand8", "--rate", "1", "--seeds", "3-1"], "--seeds 3-1"),
        (["rand8", "--rate", "1", "--seeds", "a"], "--seeds a: a is no seed"),
        (["rand8", "--rate", "1", "--policy", "refernce"], "'refernce' is no policy (did you mean \"reference\"?)"),
        (["rand8", "--rate", "1", "--policy", "random", "--policy", "random"], "--policy random: given twice"),
        (["rand8", "--rate", "1", "--policy", "nowhere.yaml"], "nowhere.yaml"),
        (["rand8", "--rate", "1", "--policy", "wrong.yaml"], "wrong.yaml:4: plugins[0].type: unknown"),
        (["rand8", "--rate", "1", "--policy", "python.yaml"], "plugin 'mine' is written in Python, which cannot be simulated"),
        (["rand8", "--rate", "1", "--policy", "flow.yaml"], "flowControl"),
        (["rand8", "--rate", "1", "--parameter", "groups"], "--parameter groups: write NAME=VALUE"),
        (["rand8", "--rate", "1", "--parameter", "gruops=1"], "the workload cannot be made: unknown field `gruops`"),
        (["good.jsonl", "--parameter", "groups=1"], "only generated workloads have parameters"),
        (["rand8", "--rate", "1", "--preset", "h100"], "unknown preset 'h100' (did you mean"),
        (["rand8", "--rate", "1", "--preset", "instant"], "unknown preset 'instant'"),
        (["rand8", "--rate", "1", "--replicas", "0"], "--replicas: between 1 and 1024, not 0"),
        (["rand8", "--rate", "1", "--replica-speeds", "1,1", "--mixed"], "leave --mixed and --replicas out"),
        (["rand8", "--rate", "1", "--signals", "smoke"], "--signals smoke: one of first_token, counters, ends"),
        (["rand8", "--rate", "1", "--warm-up", "1"], "--warm-up 1: from 0 to 0.9"),
        (["rand8", "--rate", "1", "--scrape-seconds", "-1"], "--scrape-seconds -1: 0 (only once, at the start), or from 0.001"),
        (["rand8", "--rate", "1", "--requests", "0"], "--requests 0: at least 1"),
        (["rand8", "--rate", "1", "--csv", "nowhere/out.csv"], "--csv nowhere/out.csv: cannot be written; name a file in a folder that exists"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(replay: Callable[..., Result], tmp_path: Path, arguments: list[str], said: str) -> None:
    head = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "good.jsonl").write_text(json.dumps({"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}))
    (tmp_path / "bad.jsonl").write_text('{"timestamp": 0, "input_length": 5, "output_length": 5, "hash_ids": [1]}\nrubbish\n')
    (tmp_path / "packed.jsonl").write_bytes(b"\xfd7zXZ")
    (tmp_path / "wrong.yaml").write_text(f"{head}plugins:\n- type: unheard-of-scorer\n")
    (tmp_path / "python.yaml").write_text(f"{head}plugins:\n- type: replay-test-scorer\n  name: mine\n")
    (tmp_path / "flow.yaml").write_text(f"{head}featureGates: [flowControl]\nplugins:\n- type: queue-scorer\n")
    if "python.yaml" in arguments:
        from warmroute.plugins import registry  # noqa: PLC0415 - only this case needs a plugin in Python

        if not any(definition.type == "replay-test-scorer" for definition in registry.registered()):
            (tmp_path / "mine.py").write_text(IN_PYTHON)
            registry.load_module(str(tmp_path / "mine.py"))
    result = replay(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    # A configuration's problems are a line each; everything else is one line.
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_what_a_simulation_cannot_show_to_a_plugin_is_told(replay: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "sticky.yaml").write_text(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: session-affinity-scorer\n- type: queue-scorer\n"
        "schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: session-affinity-scorer\n  - pluginRef: queue-scorer\n"
    )
    result = replay("rand8", "--rate", "5", "--policy", "sticky.yaml", "--requests", "100", "--allow-experimental-plugins")
    assert result.exit_code == 0, result.stderr
    assert "warning: policy sticky: session-affinity-scorer: no request headers in a simulation" in result.stderr


def test_a_pool_is_what_the_workload_says_unless_told_otherwise() -> None:
    from warmroute.replay.options import Asked, comparison  # noqa: PLC0415 - after the simulator is in place

    def words(**asked: object) -> str:
        return comparison(Asked(**{"trace": "rand8", **asked})).conditions.pool.words  # type: ignore[arg-type]

    assert words() == "8 x h100-8b"
    assert words(trace="het-rand8") == "8 x h100-8b (4 at speed 1, 4 at speed 0.5)"
    assert words(trace="70b-shared8") == "8 x h100-70b"
    assert words(trace="few16", replicas=3, mixed=True) == "3 x h100-8b (2 at speed 1, 1 at speed 0.5)"
    assert words(replica_speeds="2,2") == "2 x h100-8b at speed 2"
