"""Keeps the processes of the gateway: one that dies ends the gateway, the picker is started again, and none is left behind."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from warmroute.local.child import Child, ChildSpec
from warmroute.local.errors import ChildDiedError, GatewayError

#: So many deaths within `DEATH_WINDOW` seconds, and a process is not started again.
MAX_DEATHS = 5
DEATH_WINDOW = 30.0
#: Seconds between death and restart: none the first time, then these, doubled each time.
_FIRST_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 2.0
#: Seconds between SIGTERM and SIGKILL.
STOP_GRACE = 5.0

Result = TypeVar("Result")
#: Called when a process was started again: the new child, how the old one ended.
RestartListener = Callable[[Child, str], None]


class Supervisor:
    """The running children of one gateway."""

    def __init__(self, log_directory: Path, on_restart: RestartListener) -> None:
        """Start with no children; must be called in a running event loop."""
        self._log_directory = log_directory
        self._on_restart = on_restart
        self._children: dict[str, Child] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def start(self, spec: ChildSpec) -> Child:
        """Start a child and watch over it from now on.

        Raises:
            GatewayError: it cannot be executed.

        """
        child = await Child.start(spec, self._log_directory)
        self._children[spec.name] = child
        watcher = asyncio.create_task(self._watch(child))
        # A watcher that fails would leave its child unwatched.
        watcher.add_done_callback(self._on_watcher_end)
        self._watchers.append(watcher)
        return child

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: child.pid for name, child in self._children.items()}

    async def unless_failed(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do `work`, but give up when a child dies for good.

        Raises:
            GatewayError: a child died.
            OSError: what happened could not be told.

        """
        task = asyncio.create_task(work)
        try:
            watched: set[asyncio.Future[Any]] = {task, self._failure}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                raise self._failure.result()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def stop(self) -> None:
        """End all children: SIGTERM, and SIGKILL after the grace."""
        self._stopping = True
        for child in self._children.values():
            child.send_signal(signal.SIGTERM)
        if self._watchers:
            _, pending = await asyncio.wait(self._watchers, timeout=STOP_GRACE)
            if pending:
                self.kill()
                await asyncio.wait(pending)

    def kill(self) -> None:
        """SIGKILL to all children, at once."""
        self._stopping = True
        for child in self._children.values():
            child.send_signal(signal.SIGKILL)

    async def _watch(self, child: Child) -> None:
        deaths: deque[float] = deque(maxlen=MAX_DEATHS)
        statuses: deque[str] = deque(maxlen=MAX_DEATHS)
        clock = asyncio.get_running_loop().time
        while True:
            status = await child.wait()
            if self._stopping:
                return
            deaths.append(clock())
            statuses.append(status)
            # One that never served is likely to be called wrongly: what it said is the answer, not another try.
            served = len(deaths) > 1 or not child.announced.cancelled()
            too_often = len(deaths) == MAX_DEATHS and deaths[-1] - deaths[0] < DEATH_WINDOW
            if not child.spec.restart or not served or too_often:
                self._fail(child, _often(list(statuses)) if too_often else status)
                return
            recent = sum(deaths[-1] - death < DEATH_WINDOW for death in deaths)
            if recent > 1:
                await asyncio.sleep(min(_LONGEST_BACK_OFF, _FIRST_BACK_OFF * 2 ** (recent - 2)))
            if self._stopping:
                return
            reason = child.refusal
            try:
                child = await Child.start(child.spec, self._log_directory)
            except GatewayError as error:
                if not self._failure.done():
                    self._failure.set_result(error)
                return
            self._children[child.spec.name] = child
            if self._stopping:
                # The order to stop came between the fork and here, and did not reach this one.
                child.send_signal(signal.SIGKILL)
            self._tell_restart(child, f"{status} ({reason})" if reason else status)

    def _tell_restart(self, child: Child, status: str) -> None:
        try:
            self._on_restart(child, status)
        except OSError as error:
            # Nobody reads what we tell. The new child is watched on, so that the end of the gateway finds it.
            if not self._failure.done():
                self._failure.set_result(error)

    def _on_watcher_end(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and (error := watcher.exception()) is not None and not self._failure.done():
            self._failure.set_result(error)

    def _fail(self, child: Child, status: str) -> None:
        if not self._failure.done():
            self._failure.set_result(ChildDiedError(child.spec.name, status, list(child.tail), str(child.log_path)))


def _often(statuses: list[str]) -> str:
    """How it ended so often, as the rest of a sentence."""
    times = f"{len(statuses)} times within {DEATH_WINDOW:.0f} s"
    return f"{statuses[-1]} {times}" if len(set(statuses)) == 1 else f"ended {times}, at last it {statuses[-1]}"
