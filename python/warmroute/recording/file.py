"""The file of a recording: created for its owner only, never over another, never larger than asked for, and left whole when the disk is full."""

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

#: Kept free for the last line.
ENDING_BYTES = 512
_OWNER_ONLY = 0o600


class RecordingFileError(Exception):
    """A file that cannot be recorded to; the message says what to do."""


class RecordingFullError(Exception):
    """The limit is reached. `written`: those of the last lines that still had room, and are in the file."""

    def __init__(self, written: str) -> None:
        """`written`: whole lines."""
        super().__init__(written)
        self.written = written


class RecordingFile:
    """Whole lines are appended; after an error the file ends with the last whole one."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Creates the file, or takes an empty one. Raises RecordingFileError."""
        self.path = path
        self.bytes = 0
        self._room = max_bytes - ENDING_BYTES
        try:
            # Not through a link that somebody else may have put there, and not waiting for the other end of a pipe.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, _OWNER_ONLY)
        except OSError as error:
            message = f"--record-decisions {path}: {error.strerror}; name a file in a folder that the picker may write to"
            raise RecordingFileError(message) from error
        try:
            # Two that begin at the same moment both find it empty; a lock goes with its process.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            message = f"--record-decisions {path}: another process records to this file; name another"
            raise RecordingFileError(message) from error
        except OSError:
            # A file system without locks.
            pass
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size:
            os.close(self._descriptor)
            problem = "is not empty" if stat.S_ISREG(status.st_mode) else "is no ordinary file"
            message = f"--record-decisions {path}: the file {problem} and is left as it is; name another, or move it away"
            raise RecordingFileError(message)

    def append(self, text: str) -> None:
        """Write whole lines. Raises RecordingFullError when not all have room, OSError when the disk refuses: then none of them is there."""
        data = text.encode()
        fits = data
        if len(data) > self._room:
            fits = data[: data.rfind(b"\n", 0, max(self._room, 0)) + 1]
        self._write(fits)
        self._room -= len(fits)
        if len(fits) < len(data):
            raise RecordingFullError(fits.decode())

    def close(self, ending: dict[str, Any]) -> None:
        """Write the last line, if it can be, and close."""
        line = json.dumps({"warmroute_recording_end": 1, "ended": round(time.time(), 3), **ending}) + "\n"
        with contextlib.suppress(OSError):
            self._write(line.encode())
        os.close(self._descriptor)

    def clear(self) -> None:
        """Close, and leave the file empty: it can be recorded to again."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            # Half a line would make all of it unreadable.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.bytes)
            raise
        self.bytes += len(data)
