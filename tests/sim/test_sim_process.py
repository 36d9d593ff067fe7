"""`warmroute sim` as a process: ready quickly, idle for nothing, ends when told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "warmroute.sim"]
READY_SECONDS = 8.0 if os.environ.get("CI") else 4.0
"""The target is 0.8 s on a quiet machine; a test must also pass on a busy one."""


@contextlib.contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", "--print-json", "--die-with-parent", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_four_replicas_are_ready_quickly_and_end_on_a_signal() -> None:
    began = time.monotonic()
    with started("--replicas", "4", "--model", "m1", "--model", "m2") as (process, ready):
        assert time.monotonic() - began < READY_SECONDS
        assert (len(set(ready["addresses"])), ready["models"], ready["pid"]) == (4, ["m1", "m2"], process.pid)
        with socket.create_connection(tuple(ready["addresses"][0].split(":"))):
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0


def test_every_option_of_kv_events_reaches_the_replicas() -> None:
    options = ("--kv-events", "tcp://*:0", "--kv-events-replay", "tcp://*:0", "--kv-events-form", "bytes", "--cpu-blocks", "9", "--data-parallel")
    with started("--replicas", "2", *options, "--cpu-offload", "evicted", "--fault", "1=events-lose:3") as (_, ready):
        assert len(set(ready["kv_events"])) == len(set(ready["kv_events_replay"])) == 2


def test_a_hundred_idle_replicas_cost_next_to_nothing() -> None:
    with started("--replicas", "100") as (process, ready):
        assert len(ready["addresses"]) == 100
        before = cpu_seconds(process.pid)
        # What is measured is what passing time costs, so time has to pass.
        time.sleep(2)
        assert (cpu_seconds(process.pid) - before) / 2 < 0.05


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert f"port {port} on 127.0.0.1 is already in use" in result.stderr
    assert "--port 0" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "abacus"), "preset must be one of h100-8b"),
        (("--engine", "abacus"), "engine must be one of vllm"),
        (("--replicas", "0"), "replicas must be between 1"),
        (("--fault", "explode"), "kind must be one of refuse"),
        (("--output-tokens", "many"), "expected N"),
        (("--num-gpu-blocks", "10", "--max-model-len", "1000"), "more than the 144 tokens"),
        (("--kv-events", "nowhere"), "needs a port"),
        (("--kv-events", "tcp://127.0.0.1:0"), "tcp://*:0 takes a free port"),
        (("--kv-events-form", "xml"), "kv_events_form must be one of map"),
        (("--cpu-blocks", "-1"), "cpu_blocks must be 0 or more"),
        (("--fault", "events-drop:3"), "give kv_events"),
        (("--kv-events", "tcp://*:0", "--kv-events-replay", "nowhere"), "needs a port"),
        (("--speed", "0"), "speed must be"),
        (("--fault", "1=500"), "replica 1, but the 1 replicas count from 0"),
        (("--lora", "sim"), "'sim' is given to more than one"),
    ],
)
def test_a_wrong_option_is_explained(options: tuple[str, ...], words: str) -> None:
    result = subprocess.run([*COMMAND, "--port", "0", *options], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_it_ends_with_its_parent() -> None:
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({[*COMMAND, '--port', '0', '--print-json', '--die-with-parent']!r}, "
        "stdout=subprocess.PIPE, text=True)\n"
        "print(child.stdout.readline(), end='', flush=True)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    pid = json.loads(result.stdout)["pid"]
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process that is no zombie has this id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
