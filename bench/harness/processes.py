"""Child processes of the benches: started, waited for until they serve, measured, and stopped whatever happens."""

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from harness.errors import BenchError

START_SECONDS = 20.0
STOP_SECONDS = 5.0
# Beyond a run's own warm-up, measured time and drain.
GRACE_SECONDS = 30.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Child:
    """A process that runs, and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path
    name: str

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def tail(self) -> str:
        """Its last lines."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def check(self) -> None:
        """Raise BenchError when it has ended."""
        status = self.process.poll()
        if status is not None:
            raise BenchError(f"{self.name} ended with status {status}:\n{self.tail()}")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU so far in seconds and resident memory in bytes."""

    cpu_seconds: float
    resident_bytes: int


def usage(pid: int) -> Usage:
    """What a process has used, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)
    return Usage(cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND, resident_bytes=resident)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [cast("int", server.getsockname()[1]) for server in sockets]
    for server in sockets:
        server.close()
    return ports


@contextmanager
def child(name: str, command: Sequence[str], port: int | None = None) -> Iterator[Child]:
    """Run a command; with `port`, wait until it listens there. Stops it at the end."""
    with tempfile.TemporaryDirectory(prefix="warmroute-bench-") as directory:
        log = Path(directory) / "output"
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            except OSError as error:
                raise BenchError(f"{name}: cannot start {command[0]}: {error}") from error
        started = Child(process, log, name)
        try:
            if port is not None:
                _wait_for_port(started, port)
            yield started
        finally:
            _stop(process)


def _wait_for_port(started: Child, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        started.check()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise BenchError(f"{started.name} does not listen on port {port} after {START_SECONDS:.0f} s:\n{started.tail()}")
        time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def upstreams(command: Sequence[str]) -> Iterator[tuple[Child, list[str]]]:
    """Run the stand-in for model servers; gives its addresses (`ip:port`)."""
    with child("upstream", command) as started:
        deadline = time.monotonic() + START_SECONDS
        while "\n" not in (line := started.log.read_text()):
            started.check()
            if time.monotonic() > deadline:
                raise BenchError(f"the stand-in for model servers printed no addresses:\n{started.tail()}")
            time.sleep(0.02)
        yield started, json.loads(line)["addresses"]


def report(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """Run a load and return its report; the load lasts about `seconds`."""
    try:
        finished = subprocess.run(command, capture_output=True, check=True, timeout=seconds + GRACE_SECONDS)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{' '.join(command)}\n{error.stderr.decode(errors='replace')}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{' '.join(command)}: {error}") from error
    return cast("dict[str, Any]", json.loads(finished.stdout))
