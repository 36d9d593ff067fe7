"""Writes what the engine records to the file, on a thread of its own: a slow disk holds up no request."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from warmroute.config.effective import Effective
from warmroute.logging import fields
from warmroute.metrics.families import PREFIX, Family, Sample
from warmroute.recording.file import RecordingFile, RecordingFullError

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
#: Lines taken at a time.
_LINES = 256
_FULL, _STOPPED, _FAILED = "--record-max-bytes reached", "stopped", "the file could not be written"


class RecordingSource(Protocol):
    """The part of `_core.Engine` that is read."""

    def recording_header(self, policy: str, unix_seconds: float) -> str | None:
        """The first line."""

    def recording_policy(self, policy: str) -> str | None:
        """A line with another configuration."""

    def take_recorded(self, limit: int) -> str:
        """Lines of decisions."""

    def stop_recording(self) -> None:
        """Record nothing more."""

    def recording_state(self) -> dict[str, int] | None:
        """What became of the sampled decisions."""


class RecordingWriter:
    """From the engine's queue to the file, until it is stopped, the file is full or the disk refuses."""

    def __init__(self, engine: RecordingSource, path: Path, max_bytes: int, effective: Callable[[], Effective]) -> None:
        """`effective`: the configuration in force. Opens the file: raises RecordingFileError. Nothing is written before `start`."""
        self._engine = engine
        self._effective = effective
        self._file = RecordingFile(path, max_bytes)
        self._last: Effective | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._written = 0
        self._active = True

    def start(self) -> None:
        """Write the first line and go on in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and the last line. Idempotent."""
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def active(self) -> bool:
        """Whether decisions are still written."""
        return self._active

    def families(self) -> list[Family]:
        """Decisions that were written and lost, the file's size, and whether it still grows."""
        return [
            Family(
                f"{PREFIX}recorded_decisions_total",
                "counter",
                "[ALPHA] Sampled decisions, by whether they are in the recording (written) or found its queue or its file full (lost).",
                ("outcome",),
                [Sample(("written",), float(self._written)), Sample(("lost",), float(self._lost()))],
            ),
            Family(f"{PREFIX}recording_bytes", "gauge", "[ALPHA] Size of the recording of decisions.", (), [Sample((), float(self._file.bytes))]),
            Family(
                f"{PREFIX}recording_active",
                "gauge",
                "[ALPHA] 1 while decisions are recorded; 0 after the file was full or could not be written.",
                (),
                [Sample((), float(self._active))],
            ),
        ]

    def _run(self) -> None:
        reason = _FAILED
        try:
            reason = self._follow()
        except OSError as error:
            # The gateway goes on: its work is requests.
            details = fields(file=str(self._file.path), error=error.strerror, bytes=self._file.bytes)
            logger.error("the recording of decisions cannot be written and ends here", extra=details)  # noqa: TRY400 -- the trace tells nothing more
        finally:
            self._active = False
            self._engine.stop_recording()
            if self._written or self._lost():
                self._file.close({"reason": reason, "written": self._written, "lost": self._lost()})
            else:
                # Such as a picker whose port was taken: it is started again with the same flags.
                self._file.clear()

    def _follow(self) -> str:
        try:
            stopping = False
            while not stopping:
                # Looked at before the lines are taken: those of the last moment are written too.
                stopping = self._wake.wait(_LOOK_SECONDS if self._last is not None else 0)
                self._write_policy()
                while lines := self._engine.take_recorded(_LINES):
                    self._file.append(lines)
                    self._written += _decisions(lines)
        except RecordingFullError as full:
            self._written += _decisions(full.written)
            logger.warning("the recording of decisions is full and ends here", extra=fields(file=str(self._file.path), bytes=self._file.bytes))
            return _FULL
        return _STOPPED

    def _write_policy(self) -> None:
        effective = self._effective()
        if effective is self._last:
            return
        policy = effective.as_yaml()
        if self._last is None:
            line = self._engine.recording_header(policy, time.time())
        else:
            line = self._engine.recording_policy(policy) if policy != self._last.as_yaml() else None
        self._last = effective
        if line is not None:
            self._file.append(line)

    def _lost(self) -> int:
        state = self._engine.recording_state()
        if state is None:
            return 0
        # Those that were taken and found no room any more are in no queue and in no file.
        return state["lost"] + (0 if self._active else max(state["taken"] - self._written, 0))


def _decisions(lines: str) -> int:
    """All but the lines that introduce endpoints; inside of a line a quote is escaped, so that the text stands for no other."""
    return lines.count("\n") - lines.count('{"endpoints":')
