"""A picker in a process of its own, waited for by its ready line."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

DEADLINE_SECONDS = 20.0
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"


def eventually(check: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """The first true value of `check`, looked at every 20 ms; fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {check}")
        time.sleep(0.02)


class PickerProcess:
    """`warmroute epp`, its ready line and its log."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "warmroute", "epp", "--print-ready", "--bind-address=127.0.0.1"]
        ports = [f"--{name}=0" for name in ("grpc-port", "grpc-health-port", "metrics-port")]
        given = {argument.partition("=")[0] for argument in arguments}
        command += [port for port in ports if port.partition("=")[0] not in given]
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
        self.log: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read_out, self._read_err)]
        for thread in self._threads:
            thread.start()

    def _read_out(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def _read_err(self) -> None:
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.errors.append(line.decode())

    def wait_ready(self) -> dict[str, str]:
        line = self._lines.get(timeout=DEADLINE_SECONDS)
        if not line:
            self.wait()
            pytest.fail(f"no ready line: {''.join(self.errors)} {self.log}")
        return json.loads(line)

    def logged(self, message: str) -> dict[str, Any] | None:
        return next((entry for entry in self.log if message in entry["msg"]), None)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        status = self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        return status


class RunningPicker(PickerProcess):
    """A picker that serves."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(arguments)
        ready = self.wait_ready()
        assert ready.pop("event") == "serving"
        self.grpc, self.health, self.metrics = ready["grpc"], ready["health"], ready["metrics"]

    def get(self, path: str, accept: str = "") -> tuple[str, str]:
        """Body and content type of a page."""
        request = urllib.request.Request(f"http://{self.metrics}{path}", headers={"Accept": accept} if accept else {})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:  # noqa: S310 - as above
            return answer.read().decode(), answer.headers["Content-Type"]

    def endpoints(self) -> dict[str, str]:
        """Name to address of the endpoints that the engine has now."""
        return {endpoint["name"]: endpoint["address"] for endpoint in json.loads(self.get("/debug/endpoints")[0])}


@pytest.fixture
def start_process() -> Iterator[Callable[..., PickerProcess]]:
    """Starts pickers that may not come up."""
    started: list[PickerProcess] = []

    def start(*arguments: str) -> PickerProcess:
        started.append(PickerProcess(arguments))
        return started[-1]

    yield start
    _kill(started)


@pytest.fixture
def start_picker() -> Iterator[Callable[..., RunningPicker]]:
    """Starts pickers that serve: one endpoint that nobody listens at, plain text, unless the arguments say otherwise."""
    started: list[RunningPicker] = []

    def start(*arguments: str) -> RunningPicker:
        defaults = []
        if not any(argument.startswith(("--endpoint", "--config")) for argument in arguments):
            defaults.append("--endpoint=http://127.0.0.1:9")
        if not any(argument.startswith(("--secure-serving", "--cert-path", "--tls")) for argument in arguments):
            defaults.append("--secure-serving=false")
        started.append(RunningPicker(*defaults, *arguments))
        return started[-1]

    yield start
    _kill(started)


def _kill(started: list[Any]) -> None:
    for picker in started:
        with contextlib.suppress(ProcessLookupError):
            picker.process.kill()
        picker.wait()


@pytest.fixture(params=["native", "grpcio"])
def host(request) -> str:
    """Each host in turn."""
    return request.param
