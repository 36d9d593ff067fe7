"""What streams of the grpcio host wait for, on threads of its own."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

# As the native host: one long prompt must not hold up all others, and what would wait behind so many is better decided at once.
_MIN_THREADS = 2
_QUEUE = 1024


class Work(Protocol):
    """`_core.TokenWork`."""

    def run(self) -> None:
        """Do it, without the GIL; at once after `cancel`."""

    def cancel(self) -> None:
        """Nobody waits for it any more."""

    def resume(self) -> tuple[list[bytes], "bool | Work"]:
        """Go on with the exchange, as its `receive` would have; work that was not run is told to it as refused."""


class WorkPool:
    """Threads that start with the first work and end with the host."""

    def __init__(self, threads: int | None = None, queue: int = _QUEUE) -> None:
        """`threads`: one for each core where None; `queue`: what may wait for one."""
        threads = max(os.cpu_count() or 1, _MIN_THREADS) if threads is None else threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="warmroute-tokens")
        self._limit = threads + queue
        # Also of streams that are gone, until a thread has come to it.
        self._running: set[asyncio.Future[None]] = set()
        #: Streams that wait now.
        self.waiting = 0

    async def done(self, work: Work) -> tuple[list[bytes], bool | Work]:
        """Wait for the work and go on with its exchange; at once where there is no room for it."""
        if len(self._running) < self._limit:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work.run)
            self._running.add(running)
            running.add_done_callback(self._running.discard)
            self.waiting += 1
            try:
                await asyncio.shield(running)
            except asyncio.CancelledError:
                work.cancel()
                raise
            finally:
                self.waiting -= 1
        return work.resume()

    def close(self) -> None:
        """Start nothing more and end what waits. For when the server has stopped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for running in list(self._running):
            running.cancel()
