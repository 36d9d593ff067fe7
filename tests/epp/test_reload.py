"""The configuration file changes while a picker runs."""

import json
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from warmroute.config.changes import Change, changes

from .conftest import eventually

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
QUEUE = f"{HEAD}plugins: [{{type: queue-scorer}}, {{type: kv-cache-utilization-scorer}}]\n"
ONLY_QUEUE = f"{HEAD}plugins: [{{type: queue-scorer}}]\n"


def write(path: Path, text: str) -> None:
    """Replace the file as an editor does."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def count(picker, outcome: str) -> float:
    page = picker.get("/metrics")[0]
    return float(page.partition(f'llm_d_epp_config_reloads_total{{outcome="{outcome}"}} ')[2].split("\n")[0])


def last(picker) -> dict:
    return json.loads(picker.get("/debug/config")[0])["last"] or {}


def plugins(picker) -> set[str]:
    return set(json.loads(picker.get("/debug/plugins/state")[0])["plugins"])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 1.5, "b": None}, [Change("a", "1", "1.5"), Change("b", "absent", "null")]),
        # True and 1 are equal in Python, and are not the same in a configuration.
        ({"a": True, "b": 1}, {"a": 1}, [Change("a", "true", "1"), Change("b", "1", "absent")]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [Change("a.b", "[1, 2]", "[1, 3]")]),
        (
            {"plugins": [{"type": "x"}, {"type": "y", "name": "z", "parameters": {"n": 1}}]},
            {"plugins": [{"type": "w"}, {"type": "y", "name": "z", "parameters": {"n": 2}}]},
            [
                Change("plugins[x]", '{"type": "x"}', "absent"),
                Change("plugins[z].parameters.n", "1", "2"),
                Change("plugins[w]", "absent", '{"type": "w"}'),
            ],
        ),
        (
            {"plugins": [{"pluginRef": "x"}, {"pluginRef": "y"}]},
            {"plugins": [{"pluginRef": "y"}, {"pluginRef": "n"}, {"pluginRef": "x"}]},
            [Change("plugins[n]", "absent", '{"pluginRef": "n"}'), Change("plugins (order)", '["x", "y"]', '["y", "x"]')],
        ),
        # Entries without names of their own are compared as one value.
        ({"list": [{"name": "a"}, {"name": "a"}]}, {"list": []}, [Change("list", '[{"name": "a"}, {"name": "a"}]', "[]")]),
        ("x" * 300, "", [Change("", '"' + "x" * 199 + "…", '""')]),
    ],
)
def test_changes_name_the_path_and_both_values(before, after, expected):
    assert list(changes(before, after)) == expected


def test_changed_file_is_in_force_and_the_log_tells_what_changed(start_picker, host, tmp_path):
    path = tmp_path / "config.yaml"
    write(path, QUEUE)
    picker = start_picker(f"--host={host}", "--endpoint=http://127.0.0.1:9", f"--config-file={path}")
    assert {"queue-scorer", "kv-cache-utilization-scorer"} <= plugins(picker)
    assert [count(picker, outcome) for outcome in ("applied", "refused", "unchanged")] == [0, 0, 0]
    started = float(picker.get("/metrics")[0].partition("\nllm_d_epp_config_last_reload_success_timestamp_seconds ")[2].split("\n")[0])

    write(path, ONLY_QUEUE)
    eventually(lambda: count(picker, "applied") == 1)
    assert "kv-cache-utilization-scorer" not in plugins(picker)
    assert last(picker)["trigger"] == "file"
    told = {entry["path"]: (entry["before"], entry["after"]) for entry in picker.log if entry["msg"] == "configuration change"}
    assert told["plugins[kv-cache-utilization-scorer]"] == (
        '{"type": "kv-cache-utilization-scorer", "name": "kv-cache-utilization-scorer"}',
        "absent",
    )
    assert picker.logged("configuration changed")["changes"] == len(told)
    page = picker.get("/metrics")[0]
    assert float(page.partition("\nllm_d_epp_config_last_reload_success_timestamp_seconds ")[2].split("\n")[0]) > started


def test_file_that_cannot_be_used_is_refused_with_all_its_problems(start_picker, tmp_path):
    path = tmp_path / "config.yaml"
    write(path, QUEUE)
    picker = start_picker("--endpoint=http://127.0.0.1:9", f"--config-file={path}")
    before = plugins(picker)
    broken = {
        "two problems": (f"{HEAD}plugins: [{{type: quue-scorer}}]\nextra: 1\n", "extra"),
        "half-written": (QUEUE[: len(QUEUE) - 10], "not valid YAML"),
        "empty": ("", "expected a mapping"),
        "discovery beside --endpoint": (
            f"{HEAD}plugins: [{{type: file-discovery, parameters: {{path: {path}}}}}]\ndataLayer: {{discovery: {{pluginRef: file-discovery}}}}\n",
            "leave --endpoint and --endpoints out",
        ),
    }
    for number, (name, (text, problem)) in enumerate(broken.items(), 1):
        write(path, text)
        eventually(lambda: count(picker, "refused") == number)  # noqa: B023 - called at once
        assert problem in "\n".join(last(picker)["problems"]), name
        assert plugins(picker) == before
    refused = [entry for entry in picker.log if "the one before goes on" in entry["msg"]]
    assert all(entry["level"] == "error" and str(path) in "".join(entry["errors"]) for entry in refused)

    path.unlink()
    eventually(lambda: count(picker, "refused") == len(broken) + 1)
    assert "cannot be read: No such file" in last(picker)["problems"][0]
    path.mkdir()
    eventually(lambda: count(picker, "refused") == len(broken) + 2)
    assert "cannot be read: Is a directory" in last(picker)["problems"][0]
    assert plugins(picker) == before
    path.rmdir()
    write(path, ONLY_QUEUE)
    eventually(lambda: count(picker, "applied") == 1)
    assert "kv-cache-utilization-scorer" not in plugins(picker)


def test_file_behind_the_links_of_a_mounted_config_map_is_followed(start_picker, tmp_path):
    def version(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
        (tmp_path / "..next").symlink_to(name)
        (tmp_path / "..next").replace(tmp_path / "..data")

    version("..1", QUEUE)
    path = tmp_path / "config.yaml"
    path.symlink_to("..data/config.yaml")
    picker = start_picker("--endpoint=http://127.0.0.1:9", f"--config-file={path}")
    version("..2", f"{HEAD}plugins: [{{type: quue-scorer}}]\n")
    eventually(lambda: count(picker, "refused") == 1)
    shutil.rmtree(tmp_path / "..1")
    version("..3", ONLY_QUEUE)
    eventually(lambda: count(picker, "applied") == 1)
    assert "kv-cache-utilization-scorer" not in plugins(picker)


def test_what_is_deprecated_is_logged_once_wherever_it_moves_to(start_picker, tmp_path):
    path = tmp_path / "config.yaml"
    write(path, f"{HEAD}plugins:\n- {{type: tokenizer}}\n")
    picker = start_picker("--endpoint=http://127.0.0.1:9", f"--config-file={path}")
    write(path, f"{HEAD}plugins:\n- {{type: queue-scorer}}\n- {{type: tokenizer}}\n")
    eventually(lambda: count(picker, "applied") == 1)
    assert [entry["given"] for entry in picker.log if entry["msg"] == "configuration: deprecated"] == ["tokenizer"]
    write(path, f"{HEAD}plugins:\n- {{type: by-label-selector, parameters: {{matchLabels: {{a: b}}}}}}\n- {{type: tokenizer}}\n")
    eventually(lambda: count(picker, "applied") == 2)
    assert [entry["given"] for entry in picker.log if entry["msg"] == "configuration: deprecated"] == ["tokenizer", "by-label-selector"]


def test_hangup_reads_the_file_again_also_without_a_change(start_picker, tmp_path):
    path = tmp_path / "config.yaml"
    write(path, QUEUE)
    picker = start_picker("--endpoint=http://127.0.0.1:9", f"--config-file={path}")
    for number in (1, 2):
        picker.signal(signal.SIGHUP)
        eventually(lambda: count(picker, "unchanged") == number)  # noqa: B023 - called at once
    assert picker.logged("nothing changes")["trigger"] == "SIGHUP"
    # What an editor changes beside the configuration itself changes nothing.
    write(path, QUEUE + "# a comment\n")
    eventually(lambda: count(picker, "unchanged") == 3)
    assert last(picker)["trigger"] == "file"
    assert count(picker, "applied") == 0


@pytest.mark.parametrize("arguments", [("--endpoint=http://127.0.0.1:9",), ("--endpoint=http://127.0.0.1:9", f"--config-text={QUEUE}")])
def test_hangup_without_a_file_says_so_and_serving_goes_on(start_picker, arguments):
    picker = start_picker(*arguments)
    picker.signal(signal.SIGHUP)
    eventually(lambda: picker.logged("no configuration file to read again"))
    assert picker.process.poll() is None
    assert json.loads(picker.get("/healthz")[0]) == {"ready": True}


def endpoints_file(path: Path, *names: str) -> Path:
    entries = [{"name": name, "address": f"10.0.0.{number}", "port": "8000"} for number, name in enumerate(names, 1)]
    write(path, json.dumps({"endpoints": entries}))
    return path


def discovery(path: Path, *, watch: bool = True, port: int | None = None) -> str:
    source = "" if port is None else f", {{type: metrics-data-source, parameters: {{port: {port}}}}}"
    return (
        f"{HEAD}plugins: [{{type: file-discovery, parameters: {{path: {path}, watchFile: {str(watch).lower()}}}}}{source}]\n"
        "dataLayer: {discovery: {pluginRef: file-discovery}}\n"
    )


def test_other_discovery_takes_over_and_the_old_one_is_not_followed_any_more(start_picker, tmp_path):
    path = tmp_path / "config.yaml"
    one, two = endpoints_file(tmp_path / "one.json", "a", "b"), endpoints_file(tmp_path / "two.json", "a", "b", "c")
    write(path, discovery(one))
    picker = start_picker(f"--config-file={path}")
    assert set(picker.endpoints()) == {"a", "b"}
    write(path, discovery(two))
    eventually(lambda: set(picker.endpoints()) == {"a", "b", "c"})
    endpoints_file(one, "z")
    endpoints_file(two, "b", "d")
    eventually(lambda: set(picker.endpoints()) == {"b", "d"})

    write(path, discovery(tmp_path / "missing.json"))
    eventually(lambda: count(picker, "refused") == 1)
    assert "missing.json: cannot be read" in last(picker)["problems"][0]
    endpoints_file(two, "e")
    eventually(lambda: set(picker.endpoints()) == {"e"})

    write(path, discovery(two, watch=False))
    eventually(lambda: count(picker, "applied") == 2)
    endpoints_file(two, "f")
    # One that is not watched is read when the configuration names it anew.
    write(path, discovery(one))
    eventually(lambda: set(picker.endpoints()) == {"z"})


def test_other_metrics_source_takes_over_and_one_scraper_is_left(start_picker, tmp_path):
    path = tmp_path / "config.yaml"
    endpoints = endpoints_file(tmp_path / "one.json", "a")
    write(path, discovery(endpoints))
    picker = start_picker(f"--config-file={path}")
    threads = psutil.Process(picker.process.pid).num_threads()
    for number in range(1, 11):
        port = 9000 + number
        write(path, discovery(endpoints, port=port))
        eventually(lambda: count(picker, "applied") == number)  # noqa: B023 - called at once
        eventually(lambda: any(f":{port}" in json.dumps(state) for state in json.loads(picker.get("/debug/scraper")[0])))  # noqa: B023 - called at once
    assert set(picker.endpoints()) == {"a"}
    # The first reloads start the threads of the loop's own pool.
    eventually(lambda: psutil.Process(picker.process.pid).num_threads() <= threads + 8)


PLUGINS = """\
import numpy as np
from pydantic import BaseModel, field_validator
from warmroute.plugins import scorer


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Parameters(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def known(cls, name):
        if name == "unforeseen":
            raise KeyError(name)
        if name == "unprintable":
            raise Unprintable
        return name


@scorer("only-scorer")
class Only:
    '''1 for one endpoint, 0 for the others; complains at once.'''

    def __init__(self, parameters: Parameters):
        if parameters.name == "broken":
            raise RuntimeError("no such endpoint")
        self.name = parameters.name

    def __call__(self, endpoints, request):
        return np.array([float(name == self.name) for name in endpoints.names])
"""


def test_plugins_in_python_are_reloaded_with_their_parameters(start_picker, tmp_path):
    path, module = tmp_path / "config.yaml", tmp_path / "only.py"
    module.write_text(PLUGINS)

    def config(**parameters: str) -> str:
        return f"{HEAD}plugins: [{{type: only-scorer, parameters: {json.dumps(parameters)}}}]\n"

    write(path, config(name="a"))
    picker = start_picker("--endpoint=http://127.0.0.1:9", f"--config-file={path}", f"--plugin-module={module}")
    assert "only-scorer" in plugins(picker)
    faults = {
        config(name="broken"): "RuntimeError: no such endpoint",
        config(): "name: required",
        config(name="unforeseen"): "cannot be read by an only-scorer: KeyError: 'unforeseen'",
        # Nothing that code in Python does ends the watch, or goes uncounted.
        config(name="unprintable"): "RuntimeError: no words",
    }
    for text, problem in faults.items():
        before = count(picker, "refused")
        write(path, text)
        eventually(lambda: count(picker, "refused") == before + 1)  # noqa: B023 - called at once
        assert problem in last(picker)["problems"][0]
    write(path, config(name="b"))
    eventually(lambda: count(picker, "applied") == 1)
    assert [(change["path"], change["after"]) for change in last(picker)["changes"]] == [("plugins[only-scorer].parameters.name", '"b"')]
