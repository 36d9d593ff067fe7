"""Plugins in a picker's process, as its owner runs it: packages that bring them, the log, and an end in time whatever a plugin does."""

import json
import os
import time
from pathlib import Path

import grpc
import pytest

from e2e.harness import eventually
from epp.conftest import METHOD, RunningPicker
from plugins.test_call import REQUEST

PLUGINS = """
import itertools, threading
from warmroute.plugins import scorer

@scorer("raises")
def raises(endpoints, request):
    raise LookupError("no such zone")

@scorer("sleeps")
def sleeps(endpoints, request):
    threading.Event().wait()

@scorer("spins")
def spins(endpoints, request):
    while True:
        pass

@scorer("holds-python")
def holds_python(endpoints, request):
    # One call of C code that never lets another thread run Python.
    sum(itertools.repeat(1))
"""


def configuration(type_name):
    profile = {"name": "default", "plugins": [{"pluginRef": type_name}]}
    document = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", "plugins": [{"type": type_name}], "schedulingProfiles": [profile]}
    return f"--config-text={json.dumps(document)}"


@pytest.fixture
def start(tmp_path, host):
    """Start a picker whose one scorer is of that type; it has an endpoint that nobody has to answer at."""
    module = tmp_path / "plugins.py"
    module.write_text(PLUGINS)
    started = []

    def start_picker(type_name, *flags):
        given = (f"--host={host}", "--secure-serving=false", "--endpoint=http://127.0.0.1:9", "--drain-timeout=0s", configuration(type_name))
        started.append(RunningPicker(*given, *(flags or (f"--plugin-module={module}",))))
        return started[-1]

    yield start_picker
    for picker in started:
        picker.process.kill()
        picker.wait()


def ask(picker, seconds=30.0):
    """The bytes of the replies to one request, or the status with which the client gave up."""
    with grpc.insecure_channel(picker.grpc) as channel:
        try:
            return b"".join(channel.stream_stream(METHOD)(iter(REQUEST), timeout=seconds))
        except grpc.RpcError as error:
            return error.code()


def test_failures_of_the_last_moment_are_in_the_log(start):
    picker = start("raises")
    assert b"127.0.0.1:9" in ask(picker)
    picker.signal()
    assert picker.wait() == 0
    line = picker.logged("plugin skipped")
    assert (line["plugin"], line["reason"], line["requests"], line["error"]) == ("raises", "exception", 1, "LookupError: no such zone")


@pytest.mark.parametrize("type_name", ["sleeps", "spins"])
def test_a_picker_ends_at_once_while_a_plugin_is_stuck(start, type_name):
    picker = start(type_name)
    assert b"127.0.0.1:9" in ask(picker)
    begun = time.monotonic()
    picker.signal()
    assert picker.wait() == 0
    assert time.monotonic() - begun < 8


def test_a_picker_ends_in_time_while_a_plugin_holds_python(start, host):
    picker = start("holds-python")
    answer = ask(picker, 2.0)
    # The grpcio host is Python itself: docs/python-plugins.md says so.
    assert answer is grpc.StatusCode.DEADLINE_EXCEEDED if host == "grpcio" else b"127.0.0.1:9" in answer
    picker.signal()
    assert picker.wait() == 1
    assert any("still running 10 s after it was asked to end" in line for line in picker.errors)


def test_an_installed_package_brings_its_plugins(start, tmp_path: Path, monkeypatch):
    package = tmp_path / "site" / "nice_plugins"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "routing.py").write_text(PLUGINS.replace("raises", "packaged"))
    information = tmp_path / "site" / "nice_plugins-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: nice-plugins\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[warmroute.plugins]\nall = nice_plugins.routing\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])]))
    picker = start("packaged", "--v=2")
    assert b"127.0.0.1:9" in ask(picker)
    eventually(lambda: 'plugin_type="packaged"' in picker.get("/metrics")[0], "the plugin of the package is counted")
