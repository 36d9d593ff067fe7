"""The configuration file read again, without a restart: when it changes, and on SIGHUP."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from warmroute.config.changes import Change, changes
from warmroute.config.errors import ConfigError, UsageError
from warmroute.config.notices import log_notices
from warmroute.config.plan import Plan
from warmroute.host.configured import Configured
from warmroute.host.watch import FileWatcher
from warmroute.logging import fields
from warmroute.metrics.families import PREFIX, Family, Sample

logger = logging.getLogger(__name__)

# A change is read once no event has come for this long, or at the latest after that much: an editor is seldom caught halfway.
_QUIET_MS, _LONGEST_MS = 100, 1000
# A file of a megabyte can hold more than a log wants.
_LINES_LOGGED = 100
APPLIED, REFUSED, UNCHANGED = "applied", "refused", "unchanged"


class ConfigFile:
    """A configuration file: how it is read, and when it has changed. Make it before the first `load`, so that no change goes unseen."""

    def __init__(self, path: Path, load: Callable[[], Plan]) -> None:
        """`load` reads and resolves the file; it raises ConfigError."""
        self.path = path
        self.load = load
        self.watcher = FileWatcher([path], _QUIET_MS, _LONGEST_MS)


class Reloader:
    """Puts a changed configuration in force, or says why not."""

    def __init__(self, configured: Configured, file: ConfigFile | None) -> None:
        """`file` None: the configuration is on the command line, or there is none."""
        self._configured = configured
        self._file = file
        self._wanted = asyncio.Event()
        self._trigger = ""
        self._counts = dict.fromkeys((APPLIED, REFUSED, UNCHANGED), 0)
        self._last_success = time.time()
        self._last: dict[str, Any] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """`/debug/config`: the file, how often it was read again with which outcome, and what came of it the last time (None: not yet)."""
        path = None if self._file is None else str(self._file.path)
        return {"file": path, "reloads": dict(self._counts), "last": self._last}

    def request(self, trigger: str = "SIGHUP") -> None:
        """Read the file again soon, also when it has not changed."""
        if self._file is None:
            logger.warning("there is no configuration file to read again; start the picker with --config-file", extra=fields(trigger=trigger))
            return
        # Requests that come while one is under way are one.
        self._trigger = trigger
        self._wanted.set()

    async def watch(self) -> None:
        """Request a reload for each change of the file, until cancelled."""
        if self._file is not None:
            async for _ in self._file.watcher.changes():
                self.request("file")

    async def run(self) -> None:
        """Do what is requested, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if self._file is not None:
                await self._reload(self._file, self._trigger)

    async def _reload(self, file: ConfigFile, trigger: str) -> None:
        before = self._configured.plan
        try:
            plan = await asyncio.to_thread(file.load)
            swapped = await self._configured.replace(plan)
        except ConfigError as error:
            self._refuse(file, trigger, str(error).splitlines())
            return
        except (UsageError, ValueError) as error:
            self._refuse(file, trigger, [f"{file.path}: {error}"])
            return
        except Exception as error:
            # A plugin in Python may raise anything; a reload that came to nothing is one that was refused, whatever it was.
            logger.exception("reading the configuration again failed", extra=fields(file=str(file.path), trigger=trigger))
            self._refuse(file, trigger, [f"{file.path}: {type(error).__name__}: {error}"])
            return
        self._last_success = time.time()
        log_notices(notice for notice in plan.notices if not notice.is_told_by(before.notices))
        found = list(changes(before.effective.data, plan.effective.data))
        if not swapped:
            logger.info("configuration read again: nothing changes", extra=fields(file=str(file.path), trigger=trigger))
            self._tell(UNCHANGED, trigger)
            return
        logger.info("configuration changed; in force from now on", extra=fields(file=str(file.path), trigger=trigger, changes=len(found)))
        for change in found[:_LINES_LOGGED]:
            logger.info("configuration change", extra=fields(path=change.path, before=change.before, after=change.after))
        if len(found) > _LINES_LOGGED:
            logger.info("more changes than are logged", extra=fields(logged=_LINES_LOGGED, not_logged=len(found) - _LINES_LOGGED))
        self._tell(APPLIED, trigger, found=found)

    def _refuse(self, file: ConfigFile, trigger: str, problems: list[str]) -> None:
        details = fields(file=str(file.path), trigger=trigger, problems=len(problems), errors=problems[:_LINES_LOGGED])
        logger.error("configuration cannot be used; the one before goes on", extra=details)
        self._tell(REFUSED, trigger, problems=problems)

    def _tell(self, outcome: str, trigger: str, problems: Sequence[str] = (), found: Sequence[Change] = ()) -> None:
        self._counts[outcome] += 1
        self._last = {
            "outcome": outcome,
            "trigger": trigger,
            "time": time.time(),
            "problems": list(problems[:_LINES_LOGGED]),
            "changes": [dataclasses.asdict(change) for change in found[:_LINES_LOGGED]],
        }

    def families(self) -> list[Family]:
        """The counter of reloads by outcome, and when the file was last read without a problem."""
        samples = [Sample((outcome,), float(count)) for outcome, count in self._counts.items()]
        return [
            Family(
                f"{PREFIX}config_reloads_total",
                "counter",
                "[ALPHA] The number of times that the configuration file was read again, by outcome (applied, refused, unchanged).",
                ("outcome",),
                samples,
            ),
            Family(
                f"{PREFIX}config_last_reload_success_timestamp_seconds",
                "gauge",
                "[ALPHA] When the configuration was last read without a problem, in seconds since the epoch; the start counts.",
                (),
                [Sample((), self._last_success)],
            ),
        ]
