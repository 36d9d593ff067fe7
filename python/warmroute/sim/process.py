"""`warmroute sim` as a process: announces its addresses, ends on a signal or with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

from .pool import SimPool

if TYPE_CHECKING:
    from .config import SimConfig


async def serve(pool: SimPool, *, print_json: bool) -> None:
    """Run a pool until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with pool:
        announce(pool, print_json=print_json)
        await stopped.wait()


def announce(pool: SimPool, *, print_json: bool) -> None:
    """Say on stdout where the replicas listen: one JSON line for a program, or a line each for a person."""
    config = pool.config
    if print_json:
        ready = {
            "addresses": pool.addresses,
            "models": list(config.models),
            "engine": config.engine,
            "kv_events": pool.kv_event_endpoints,
            "kv_events_replay": pool.kv_replay_endpoints,
            "pid": os.getpid(),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
    else:
        for index, address in enumerate(pool.addresses):
            events = f", KV events at {pool.kv_event_endpoints[index]}" if pool.kv_event_endpoints else ""
            sys.stdout.write(f"replica {index}: http://{address} serves {', '.join(config.models)} ({config.engine}, {config.preset}{events})\n")
    sys.stdout.flush()


def run(replicas: int, config: SimConfig, *, host: str, port: int, print_json: bool) -> None:
    """Run a pool in this process, on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - optional, and slow to import
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(_pool(replicas, config, host, port), print_json=print_json))


def _pool(replicas: int, config: SimConfig, host: str, port: int) -> SimPool:
    return SimPool(replicas, config, host=host, port=port)
