"""The picker's configuration file changes while the gateway runs."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .harness import SERVED, SOON, Gateway, ModelServer, eventually, running


def write(path: Path, text: str) -> None:
    """Replace the file as an editor does."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def only(color: str) -> str:
    """Configuration of a picker that sends everything to endpoints with this label."""
    return f"""\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: label-selector-filter
  parameters: {{matchLabels: {{color: {color}}}}}
- type: queue-scorer
schedulingProfiles:
- name: default
  plugins: [{{pluginRef: label-selector-filter}}, {{pluginRef: queue-scorer}}]
"""


@pytest.fixture
def servers() -> Iterator[dict[str, str]]:
    """Give two model servers: colour to address."""
    with ModelServer("one") as red, ModelServer("one") as blue:
        yield {"red": red.address, "blue": blue.address}


def served_by(gateway: Gateway) -> set[str]:
    """Endpoints that serve a few requests; all must succeed."""
    answers = [gateway.complete(f"{number} prompt") for number in range(8)]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    return {answer.headers[SERVED] for answer in answers}


def reloads(gateway: Gateway) -> dict[str, int]:
    """How often the picker read its file again, by outcome."""
    return dict(httpx.get(f"{gateway.ready['metrics']}/debug/config", timeout=SOON).json()["reloads"])


def test_changed_configuration_changes_the_pick_and_a_broken_one_does_not(tmp_path: Path, servers: dict[str, str]) -> None:
    endpoints, config = tmp_path / "endpoints.json", tmp_path / "config.yaml"
    entries = [
        {"name": color, "address": address.partition(":")[0], "port": address.partition(":")[2], "labels": {"color": color}}
        for color, address in servers.items()
    ]
    write(endpoints, json.dumps({"endpoints": entries}))
    write(config, only("red"))
    with running("--endpoints", str(endpoints), "--config-file", str(config)) as gateway:
        assert served_by(gateway) == {servers["red"]}
        write(config, only("blue"))
        changed = gateway.wait_for("config-changed")["changes"]
        assert [(change["before"], change["after"]) for change in changed] == [('"red"', '"blue"')]
        assert changed[0]["path"] == "plugins[label-selector-filter].parameters.matchLabels.color"
        assert served_by(gateway) == {servers["blue"]}

        write(config, only("red") + "extra: 1\n")
        refused = gateway.wait_for("config-refused")["problems"]
        assert len(refused) == 1
        assert refused[0].startswith(f'{config}:10: extra: unknown field "extra"')
        assert served_by(gateway) == {servers["blue"]}

        before = reloads(gateway)
        os.kill(gateway.pids["picker"], signal.SIGHUP)
        eventually(lambda: reloads(gateway)["refused"] == before["refused"] + 1, "the file is read again on SIGHUP")
        write(config, only("red"))
        gateway.wait_for("config-changed")
        os.kill(gateway.pids["picker"], signal.SIGHUP)
        gateway.wait_for("config-unchanged")
        assert served_by(gateway) == {servers["red"]}
        assert reloads(gateway) == {"applied": 2, "refused": 2, "unchanged": 1}
