"""docs/python-plugins.md, done as it says."""

import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import numpy as np
import pytest

from e2e.harness import running
from warmroute.plugins import registry, testing
from warmroute.plugins.endpoints import COLUMNS, Endpoints
from warmroute.plugins.request import Request

PAGE = (Path(__file__).parents[2] / "docs" / "python-plugins.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader has put the two files."""
    (tmp_path / "my_plugin.py").write_text(blocks("python")[0])
    (tmp_path / "my.yaml").write_text(blocks("yaml")[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plugin_has_no_more_than_twenty_lines():
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 20


@pytest.mark.parametrize("host", ["native", "grpcio"])
def test_a_newcomer_can_run_it(folder, host):
    start, ask = blocks("sh")
    command = shlex.split(start)
    assert command[:2] == ["warmroute", "up"]
    # A busy machine may take longer than the ten milliseconds of the default.
    with running(*command[2:], f"--picker-host={host}", "--plugin-timeout=10s") as gateway:
        script = ask.replace("http://127.0.0.1:8080", gateway.url)
        assert script != ask
        output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout
        served = re.findall(r"endpoint-served: 127\.0\.0\.1:(\d+)", output)
        ports = sorted(endpoint.rsplit(":", 1)[1] for endpoint in gateway.endpoints)
        homes = [ports[zlib.crc32(user) % 4] for user in (b"ada", b"ada", b"grace")]
        assert served == homes
        assert len(set(homes)) == 2
        metrics = gateway.http.get(f"{gateway.ready['metrics']}/metrics").text
        assert 'plugin_type="home-scorer"' in metrics
        assert "plugin_failures_total{" not in metrics


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plugin-module=no/such.py"], "--plugin-module no/such.py: No such file or directory."),
        (["--plugin-timeout=0"], "--plugin-timeout: must be above 0 and at most 60s: every request waits that long for a plugin that hangs."),
    ],
)
def test_up_refuses_what_its_picker_would_refuse(arguments, said):
    result = command_line("up", "--sim=1", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def command_line(*arguments):
    return subprocess.run([sys.executable, "-m", "warmroute", *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_the_other_commands_of_the_page(folder):
    commands = re.findall(r"`warmroute ((?:check|plugins) [^`]+)`", PAGE)
    assert len(commands) == 2
    for command in commands:
        result = command_line(*shlex.split(command))
        assert (result.returncode, result.stderr) == (0, "")
        assert "patience" in result.stdout
    (folder / "my.yaml").write_text(blocks("yaml")[0].replace("patience: 2", "patience: 0"))
    result = command_line(*shlex.split(commands[0]))
    assert (result.returncode, result.stdout) == (2, "")
    assert "my.yaml:6: plugins[0].parameters.patience:" in result.stderr


def test_the_other_code_of_the_page(folder, capsys):
    (folder / "all.py").write_text("\n".join(blocks("python")))
    found = registry.load_module("./all.py")
    assert [one.type for one in found] == ["home-scorer", "every-other-filter"]
    scores = np.array([0.5, 0.25, 0.5 / 5.5])
    scores[zlib.crc32(b"ada") % 3] *= 2
    assert capsys.readouterr().out == f"{scores}\n"
    every_other = found[1].function()
    three = testing.endpoints(queue=[0, 0, 0])
    assert [every_other(three, testing.request()).tolist() for _ in range(2)] == [[False, True, False], [True, False, True]]
    (toml,) = blocks("toml")
    assert list(tomllib.loads(toml)["project"]["entry-points"]) == [registry.ENTRY_POINTS]


def test_the_page_names_everything_there_is():
    public = {name for kind in (Endpoints, Request) for name in vars(kind) if not name.startswith("_")}
    assert set(COLUMNS) <= public
    assert {name for name in public if not re.search(rf"`{name}[`(]", PAGE)} == set()


def test_candidates_made_by_hand():
    made = testing.endpoints(queue=[1, 2], kv_usage=0.5, labels=[{"zone": "a"}, {}], attributes={("mine", "x"): [3, 4]})
    assert (made.queue.tolist(), made.kv_usage.tolist(), made.running.tolist()) == ([1, 2], [0.5, 0.5], [0, 0])
    assert (made.label("zone").tolist(), made.names, made.namespaces) == (["a", None], ("endpoint-0", "endpoint-1"), ("default", "default"))
    assert made.addresses == ("10.0.0.1:8000", "10.0.0.2:8000")
    assert (made.attribute("mine", "x").tolist(), np.isnan(made.attribute("mine", "y")).tolist()) == ([3, 4], [True, True])
    asked = testing.request(prompt_tokens=7, headers={"X-Team": "blue"}, attributes={"SessionID": "s"})
    assert (asked.prompt_tokens, dict(asked.headers), asked.attribute("SessionID"), asked.attribute("other")) == (7, {"x-team": "blue"}, "s", None)
    # Each name is a column of its own.
    numbered = testing.endpoints(**{name: [number] for number, name in enumerate(COLUMNS)})
    assert [getattr(numbered, name).tolist() for name in COLUMNS] == [[number] for number in range(len(COLUMNS))]
    for wrong, said in [
        ({"queu": [1]}, "there is no column 'queu'; there are queue, running, .*"),
        ({"queue": [1], "names": ["a", "b"]}, "one value for each endpoint is needed; given are 1, 2"),
        ({"queue": 1}, "one value for each endpoint is needed; given are none"),
    ]:
        with pytest.raises(ValueError, match=said):
            testing.endpoints(**wrong)
