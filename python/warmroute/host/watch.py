"""Waiting for files to change: endpoints and certificates, however they are replaced."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import watchfiles

from warmroute.logging import fields

logger = logging.getLogger(__name__)

# Looked at this often also without an event: for what changed before the watch stood, and for file systems that tell no events.
_LOOK_MS = 1000
_RETRY_SECONDS = 1.0

_Signature = tuple[tuple[int, ...] | None, ...]


class FileWatcher:
    """Tells when one of a few files has changed since it was created; make it before the files are read for the first time.

    The directories are watched, not the files: editors rename, and Kubernetes swaps a symbolic link beside them. Other files in the same
    directory cost a look at ours, no more.
    """

    def __init__(self, files: Sequence[Path], quiet_ms: int, longest_ms: int) -> None:
        """Reports once no event has come for `quiet_ms`, or at the latest after `longest_ms` of events."""
        self._files = tuple(files)
        self._quiet_ms = quiet_ms
        self._longest_ms = longest_ms
        self._seen = self._signature()

    async def changes(self) -> AsyncIterator[None]:
        """One item a change, until the caller stops."""
        while True:
            directories = self._directories()
            try:
                async for _ in watchfiles.awatch(
                    *directories,
                    watch_filter=None,
                    recursive=False,
                    debounce=self._longest_ms,
                    step=self._quiet_ms,
                    rust_timeout=_LOOK_MS,
                    yield_on_timeout=True,
                    ignore_permission_denied=True,
                ):
                    signature = self._signature()
                    if signature != self._seen:
                        self._seen = signature
                        yield
                    if self._directories() != directories:
                        break
            except (OSError, RuntimeError) as error:
                details = fields(files=[str(file) for file in self._files], error=str(error))
                logger.error("cannot watch files; looking again soon", extra=details)  # noqa: TRY400 - the trace tells nothing
                await asyncio.sleep(_RETRY_SECONDS)

    def _directories(self) -> set[Path]:
        """Where the files' names are, and where the links lead."""
        return {directory for file in self._files for directory in (file.parent, file.resolve().parent) if directory.is_dir()}

    def _signature(self) -> _Signature:
        """What changes when a file is written or replaced; None for one that is not there."""
        found: list[tuple[int, ...] | None] = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return tuple(found)
