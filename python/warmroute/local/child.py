"""One process of the gateway: its output kept in a bounded log and a ring of last lines, its end tied to ours."""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from warmroute.local.errors import GatewayError

#: Lines kept to tell why a process died.
TAIL_LINES = 20
#: Longest piece of a line that is kept, in bytes.
_MAX_LINE = 16_384
#: The exit status of warmroute's commands for flags and files that cannot be used.
_CANNOT_BE_USED = 2
#: A log file is put aside (and an older one thrown away) at this size in bytes.
_MAX_LOG = 16 * 2**20
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start a process. `name` is what people call it."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Start it again when it dies, instead of ending the gateway.
    restart: bool = False


class BoundedLog:
    """A log file that never takes more than twice `_MAX_LOG` bytes."""

    def __init__(self, path: Path) -> None:
        """Open (append to) the file."""
        self.path = path
        # Unbuffered: what could not be written is not tried again, and a crash of ours loses nothing.
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append a line, without its end. A line that cannot be written (disk full) is lost: the process that wrote it must not wait for us."""
        with suppress(OSError):
            self._file.write(line + b"\n")
            if self._file.tell() > _MAX_LOG:
                self.path.replace(self.path.with_suffix(".log.1"))
                following = self.path.open("ab", buffering=0)
                self._file.close()
                self._file = following

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Child:
    """A process that runs, or ran."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process, log: BoundedLog) -> None:
        """Use `start` instead."""
        self.spec = spec
        self.log_path = log.path
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        #: The first JSON object that the process prints on its standard output.
        self.announced: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._process = process
        self._log = log
        self._readers = [
            asyncio.create_task(self._read(stream, announces=announces))
            for stream, announces in ((process.stdout, True), (process.stderr, False))
            if stream is not None
        ]

    @classmethod
    async def start(cls, spec: ChildSpec, log_directory: Path) -> "Child":
        """Start the process in a session of its own, so that Ctrl-C reaches it only through us.

        Raises:
            GatewayError: it cannot be executed.

        """
        log_path = log_directory / f"{spec.name}.log"
        try:
            log = BoundedLog(log_path)
        except OSError as error:
            message = f"Cannot write the log of {spec.name} ({log_path}): {error.strerror or error}."
            raise GatewayError(message) from error
        try:
            process = await asyncio.create_subprocess_exec(
                *spec.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **spec.environment},
                start_new_session=True,
                preexec_fn=_dies_with(os.getpid()),
            )
        except OSError as error:
            log.close()
            message = f"Cannot start {spec.name} ({spec.arguments[0]}): {error.strerror or error}."
            raise GatewayError(message) from error
        return cls(spec, process, log)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def wait(self) -> str:
        """Wait for the end of the process and of its output; tell how it ended, as the rest of a sentence."""
        code = await self._process.wait()
        # A grandchild may hold the pipes open: what it prints later is not waited for.
        _, pending = await asyncio.wait(self._readers, timeout=1.0)
        for reader in pending:
            reader.cancel()
        self._log.close()
        if not self.announced.done():
            self.announced.cancel()
        if code >= 0:
            return f"ended with status {code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"

    @property
    def refusal(self) -> str | None:
        """The last line of one that ended because it cannot be run as it is: a file or a flag that cannot be used."""
        return self.tail[-1] if self._process.returncode == _CANNOT_BE_USED and self.tail else None

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process; nothing when it has ended."""
        if self.is_running:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read(self, stream: asyncio.StreamReader, *, announces: bool) -> None:
        rest = b""
        while chunk := await stream.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line, announces=announces)
            if len(rest) > _MAX_LINE:
                self._take(rest, announces=False)
                rest = b""
        if rest:
            self._take(rest, announces=announces)

    def _take(self, line: bytes, *, announces: bool) -> None:
        line = line[:_MAX_LINE]
        text = line.decode(errors="replace").rstrip()
        self._log.write(line)
        if text:
            self.tail.append(text)
        if announces and not self.announced.done() and text.startswith("{"):
            with suppress(ValueError):
                document = json.loads(text)
                if isinstance(document, dict):
                    self.announced.set_result(document)


def _dies_with(parent: int) -> Callable[[], None] | None:
    """Code for the new process, before it executes the program: be killed when `parent` ends, however it ends (Linux only).

    SIGKILL and not SIGTERM: without the gateway around it nothing is left to drain, and nothing may be left behind.
    """
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here: after the fork of a process with threads no lock may be taken.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    kill = int(signal.SIGKILL)

    def before_execution() -> None:
        prctl(_PR_SET_PDEATHSIG, kill)
        if os.getppid() != parent:
            os._exit(1)

    return before_execution
