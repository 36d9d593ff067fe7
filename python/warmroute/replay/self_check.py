"""How far a simulation can be believed: the same requests to the same replicas, once simulated and once for real.

For real: `warmroute sim` servers behind real HTTP, in real time, each a process of its own. The simulation runs first; when it sent which request
to which replica is what the real run repeats, so that only the replicas differ and not the picks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import os
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from warmroute import _core
from warmroute.config.errors import UsageError
from warmroute.replay import options
from warmroute.replay.hardware import Pool
from warmroute.replay.policies import NamedPolicy
from warmroute.replay.run import Bar, Conditions, Level

#: What is sent to how many replicas where nothing else is asked for: prompts that share, short answers.
WORKLOAD, REPLICAS = "zipf8", 2
#: How long it takes, about.
SECONDS = 20.0
#: Default rate as a share of what the pool could compute of the prompts if nothing was cached.
SHARE = 0.6
# A server that has not said by then where it listens never will.
_START_SECONDS = 30.0
# What is still open by then is overload, not load.
_DRAIN_SECONDS = 120.0
# Requests are sent from here on: all tasks exist by then.
_LEAD_SECONDS = 0.5
# Characters of a prompt that the simulated server reads as one token.
_TOKEN_CHARACTERS = 4
_SHORTEST_ANSWER = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """One request: seconds from sending to the first and the last token, and prompt tokens found in the cache."""

    first_token: float
    end: float
    output_tokens: int
    cached_tokens: int

    @property
    def per_token(self) -> float | None:
        """Seconds between two tokens, on average; None for an answer of one."""
        return (self.end - self.first_token) / (self.output_tokens - 1) if self.output_tokens >= _SHORTEST_ANSWER else None


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of the excerpt: when it goes to which replica. `at`: seconds from the first one on."""

    at: float
    replica: int
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """As many requests as fit into the time. `rate`: requests/s."""

    title: str
    conditions: Conditions
    policy: NamedPolicy
    rate: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs, request by request."""

    measured: tuple[Timing, ...]
    simulated: tuple[Timing, ...]


def excerpt_of(asked: options.Comparison, seed: int, rate: float | None) -> Excerpt:
    """The first requests of a trace, at `rate` or at a moderate load."""
    trace = asked.conditions.source.of(seed)
    pool = asked.conditions.pool
    own = SHARE * pool.prefill_tokens_per_second() * trace.requests / max(trace.prompt_tokens, 1) if rate is None else rate
    requests = max(1, min(trace.requests, asked.conditions.limit or trace.requests, round(own * SECONDS)))
    title = f"self-check: {requests} requests of {asked.name} at {own:.3g}/s to {pool.words}, picked by {asked.policies[0].name}, seed {seed}"
    return Excerpt(title, replace(asked.conditions, limit=requests, repeat=1), asked.policies[0], own)


def compare(excerpt: Excerpt, seed: int, bar: Bar) -> Comparison:
    """Simulate, then do it for real. Raises UsageError for a trace that cannot be sent, and where the servers cannot run."""
    conditions = excerpt.conditions
    trace = conditions.source.of(seed)
    try:
        result = _core.simulate(trace, conditions.settings(Level(excerpt.rate), seed, details=True), excerpt.policy.settings, None)
    except ValueError as error:
        raise UsageError(f"self-check: {error}") from error
    plan, simulated = _plan(trace, result["details"])
    measured = asyncio.run(_measure(conditions.pool, plan, trace.unit_tokens, bar))
    return Comparison(tuple(measured), tuple(simulated))


def print_comparison(console: Console, comparison: Comparison, title: str) -> None:
    """Measured against simulated, with the error of the simulation in per cent."""
    table = Table(title=title, caption="error: simulated against measured", caption_justify="left")
    for column, justify in (("", "left"), ("measured", "right"), ("simulated", "right"), ("error", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type] # a literal of rich's
    for name, measured, simulated in rows(comparison):
        error = f"{(simulated / measured - 1) * 100:+.1f} %" if measured else "-"
        places = 4 if name.endswith("]") else 0
        table.add_row(name, f"{measured:,.{places}f}", f"{simulated:,.{places}f}", error)
    console.print(table)
    console.print(f"median error of single requests, end to end: {single_error(comparison) * 100:.1f} %")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores:
        console.print(
            f"This machine is busy ({load:.1f} threads want to run on {cores} cores): the servers were slower than they are on a quiet one."
        )


def rows(comparison: Comparison) -> list[tuple[str, float, float]]:
    """Name, measured and simulated, in seconds (the last row: tokens)."""
    found = []
    series: dict[str, Callable[[Timing], float | None]] = {
        "TTFT": lambda timing: timing.first_token,
        "TPOT": lambda timing: timing.per_token,
        "E2E": lambda timing: timing.end,
    }
    for name, take in series.items():
        both = [sorted(value for timing in run if (value := take(timing)) is not None) for run in (comparison.measured, comparison.simulated)]
        if not all(both):
            continue
        for what, number in (("mean", statistics.fmean), ("p50", statistics.median), ("p90", _p90)):
            measured, simulated = (float(number(values)) for values in both)
            found.append((f"{name} {what} [s]", measured, simulated))
    cached = [float(sum(timing.cached_tokens for timing in run)) for run in (comparison.measured, comparison.simulated)]
    return [*found, ("prompt tokens cached", cached[0], cached[1])]


def single_error(comparison: Comparison) -> float:
    """Median over the requests of how far the simulated end-to-end time is off, as a share."""
    pairs = zip(comparison.measured, comparison.simulated, strict=True)
    return statistics.median(abs(simulated.end / measured.end - 1) for measured, simulated in pairs)


def prompt_of(blocks: Sequence[int], tokens: int, unit_tokens: int) -> str:
    """A text of so many tokens that begins as every other one does whose first blocks are the same."""
    parts = [hashlib.shake_128(block.to_bytes(8, "little")).hexdigest(unit_tokens * _TOKEN_CHARACTERS // 2) for block in blocks]
    return "".join(parts)[: tokens * _TOKEN_CHARACTERS]


def _p90(ordered: Sequence[float]) -> float:
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def _plan(trace: _core.Trace, details: Mapping[str, list[Any]]) -> tuple[list[Planned], list[Timing]]:
    lines = trace.write().splitlines()
    requests = [request for request in map(json.loads, lines) if "input_length" in request]
    if any(request.get("lora") for request in requests):
        raise UsageError("self-check: the trace has LoRA adapters; choose one without")
    plan, timings = [], []
    first = min(details["arrival"])
    columns = zip(requests, *(details[name] for name in ("arrival", "ttft", "finish", "replica", "cached")), strict=False)
    for request, arrival, ttft, finish, replica, cached in columns:
        if replica < 0 or math.isnan(finish):
            raise UsageError("self-check: a request did not finish in the simulation; choose a lower --rate")
        plan.append(Planned(arrival - first, replica, request["input_length"], request["output_length"], tuple(request["hash_ids"])))
        timings.append(Timing(ttft, finish - arrival, request["output_length"], cached))
    return plan, timings


async def _measure(pool: Pool, plan: Sequence[Planned], unit_tokens: int, bar: Bar) -> list[Timing]:
    async with _servers(pool) as addresses, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start = asyncio.get_running_loop().time() + _LEAD_SECONDS
        done = 0
        with bar.shown("for real", len(plan)) as show:

            async def one(request: Planned) -> Timing:
                nonlocal done
                timing = await _send(session, addresses[request.replica], request, start, unit_tokens)
                done += 1
                show(done)
                return timing

            limit = _LEAD_SECONDS + max(request.at for request in plan) + _DRAIN_SECONDS
            try:
                async with asyncio.timeout(limit), asyncio.TaskGroup() as tasks:
                    running = [tasks.create_task(one(request)) for request in plan]
            except TimeoutError as error:
                raise UsageError(f"self-check: only {done} of {len(plan)} requests ended within {limit:.0f} s; choose a lower --rate") from error
            except BaseExceptionGroup as group:
                failures = group.subgroup((aiohttp.ClientError, UsageError))
                if failures is None:
                    raise
                raise UsageError(f"self-check: a simulated server failed: {failures.exceptions[0]}") from group
        return [task.result() for task in running]


async def _send(session: aiohttp.ClientSession, address: str, request: Planned, start: float, unit_tokens: int) -> Timing:
    loop = asyncio.get_running_loop()
    body = json.dumps(
        {
            "model": "sim",
            "prompt": prompt_of(request.blocks, request.prompt_tokens, unit_tokens),
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    await asyncio.sleep(start + request.at - loop.time())
    sent = loop.time()
    first: float | None = None
    tail = b""
    async with session.post(f"http://{address}/v1/completions", data=body, headers={"content-type": "application/json"}) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            if first is None:
                first = loop.time()
            tail = (tail + chunk)[-2048:]
    end = loop.time()
    usage = _usage(tail)
    return Timing((first or end) - sent, end - sent, usage["completion_tokens"], usage["prompt_tokens_details"]["cached_tokens"])


def _usage(tail: bytes) -> dict[str, Any]:
    for event in reversed(tail.split(b"\n\n")):
        if event.startswith(b"data: {"):
            usage = json.loads(event.removeprefix(b"data: ")).get("usage")
            if usage is not None:
                return dict(usage)
    raise UsageError("self-check: a simulated server ended an answer without its usage")


@contextlib.asynccontextmanager
async def _servers(pool: Pool) -> AsyncIterator[list[str]]:
    """One process a replica; ended with the context however it ends."""
    processes: list[asyncio.subprocess.Process] = []
    try:
        for speed in pool.speeds:
            processes.append(await _start(pool, speed))  # noqa: PERF401 - what has started must be ended when a later one fails
        yield [await _address(process) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        for process in processes:
            await process.wait()


async def _start(pool: Pool, speed: float) -> asyncio.subprocess.Process:
    hardware = pool.hardware()[0]
    sizes = ("num_gpu_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens", "max_loras")
    options = [part for size in sizes for part in (f"--{size.replace('_', '-')}", str(hardware[size]))]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "warmroute", "sim", "--port", "0", "--preset", pool.preset, "--speed", str(speed)),
        *(*options, "--print-json", "--die-with-parent"),
        stdout=asyncio.subprocess.PIPE,
    )


async def _address(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:
        raise RuntimeError("a server was started without its output")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_SECONDS)
        return str(json.loads(line)["addresses"][0])
    except (TimeoutError, ValueError) as error:
        raise UsageError("self-check: a simulated server did not start; what it said stands above") from error
