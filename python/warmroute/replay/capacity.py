"""The capacity of a pool for a trace: what load 1.0 means.

The highest rate on a grid of 10 % at which the best of two good policies keeps 90 % of the first tokens within two seconds, or within four times
what they take when there is next to no load. Source of the definition: the policy study, section 2.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from warmroute import __version__, _core
from warmroute.config.errors import UsageError
from warmroute.replay.measures import TTFT_P90, TTFT_P99
from warmroute.replay.policies import NamedPolicy, load_policy
from warmroute.replay.run import SECONDS, SESSIONS, Bar, Conditions, Level, run_all

#: Policies of which the better one has to keep up.
JUDGES = ("marginal-latency", "lmetric")
GRID = 1.1
#: Seconds within which 90 % of the first tokens may come in any case, and how many times the unloaded figure otherwise.
BOUND_SECONDS, BOUND_TIMES = 2.0, 4.0
# Where the slowest hundredth takes so many times what the slowest tenth does, the 90th percentile lies between two kinds of prompts, on either side by chance:
# then the bound is so many times the slowest hundredth's.
_APART, _APART_TIMES = 10.0, 2.0
# Of the first guess: so little that no request waits for another.
_UNLOADED_SHARE = 0.02
_UNLOADED_REQUESTS = 2000
# Scrapes of an idle pool are most of the work there, and tell nothing.
_UNLOADED_SCRAPE_SECONDS = 1.0
# Steps of the grid from the first guess: a factor of 300 in both directions.
_FARTHEST = 60
_CACHED_MOST = 200


@dataclass(frozen=True, slots=True)
class Capacity:
    """`rate`: requests/s at load 1.0; `bound`: seconds within which 90 % of the first tokens came; `cached`: known from an earlier search."""

    rate: float
    bound: float
    cached: bool = False


def highest(passes: Callable[[int], bool], start: int) -> int | None:
    """The highest step that passes, by galloping from `start` and bisection; None when none does within `_FARTHEST` steps.

    `passes` is taken to be true up to some step and false from there on.
    """
    direction = 1 if passes(start) else -1
    known, distance = start, 1
    while True:
        step = start + direction * distance
        if passes(step) == (direction < 0):
            break
        if distance == _FARTHEST:
            return None
        known, distance = step, min(distance * 2, _FARTHEST)
    low, high = (known, step) if direction > 0 else (step, known)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def rate_of(step: int) -> float:
    """Requests/s of a step of the grid."""
    return GRID**step


def find(conditions: Conditions, seed: int, *, jobs: int, bar: Bar, cache: Path | None) -> Capacity:
    """Search, or look up what was found before for the same trace, pool and engine. Raises UsageError when there is no such rate."""
    key = _key(conditions, seed)
    known = _read(cache).get(key)
    if known is not None:
        return Capacity(known["rate"], known["bound"], cached=True)
    judges = [load_policy(name) for name in JUDGES]
    trace = conditions.source.of(seed)
    guess = conditions.pool.prefill_tokens_per_second() * trace.requests / max(trace.prompt_tokens, 1)
    bound = _bound(conditions, seed, guess, judges[:1], bar)

    def passes(step: int) -> bool:
        level = Level(rate_of(step))
        # So often that a queue can grow, whatever was asked for.
        long = replace(conditions, repeat=None)
        # One after the other: where the first keeps up, the second need not run. Two threads' worth of jobs run both at once.
        batches = [judges] if jobs > 1 else [[judge] for judge in judges]
        for batch in batches:
            outcomes = run_all(long, batch, [level], [seed], jobs=jobs, bar=bar, title=f"capacity: {level.words}")
            if any((p90 := TTFT_P90.of(outcome.result)) is not None and p90 <= bound for outcome in outcomes):
                return True
        return False

    step = highest(passes, _step_below(guess))
    if step is None:
        raise UsageError("no capacity found: first tokens are late at any rate, or at none, of this trace on this pool; give rates with --rate")
    capacity = Capacity(rate_of(step), bound)
    _write(cache, key, capacity)
    return capacity


def default_cache() -> Path:
    """Where capacities are remembered."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "warmroute" / "capacity.json"


def _bound(conditions: Conditions, seed: int, guess: float, judges: Sequence[NamedPolicy], bar: Bar) -> float:
    requests = min(conditions.limit or _UNLOADED_REQUESTS, _UNLOADED_REQUESTS)
    idle = replace(conditions, limit=requests, repeat=1, scrape_seconds=_UNLOADED_SCRAPE_SECONDS)
    outcome = run_all(idle, judges, [Level(guess * _UNLOADED_SHARE)], [seed], jobs=1, bar=bar, title="capacity: without load")[0]
    p90, p99 = TTFT_P90.of(outcome.result), TTFT_P99.of(outcome.result)
    if p90 is None or p99 is None:
        raise UsageError("no capacity found: no request of the trace was measured")
    return max(BOUND_SECONDS, _APART_TIMES * p99 if p99 > _APART * p90 else BOUND_TIMES * p90)


def _step_below(rate: float) -> int:
    step = 0
    while rate_of(step) > rate:
        step -= 1
    while rate_of(step + 1) <= rate:
        step += 1
    return step


def _key(conditions: Conditions, seed: int) -> str:
    # A new build of the engine may pick better: the module's own stamp is part of what was asked.
    built = Path(_core.__file__ or "").stat() if _core.__file__ else None
    stamp = [built.st_size, built.st_mtime_ns] if built is not None else []
    asked = json.dumps([__version__, SECONDS, SESSIONS, stamp, conditions.source.digest, conditions.settings(Level(), seed)])
    return hashlib.blake2b(asked.encode(), digest_size=16).hexdigest()


def _read(cache: Path | None) -> dict[str, dict[str, float]]:
    if cache is None:
        return {}
    try:
        entries = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Missing or damaged: searched again and written anew.
        return {}
    valid = isinstance(entries, dict) and all(isinstance(entry, dict) and {"rate", "bound"} <= entry.keys() for entry in entries.values())
    return entries if valid else {}


def _write(cache: Path | None, key: str, capacity: Capacity) -> None:
    if cache is None:
        return
    entries = {**_read(cache), key: {"rate": capacity.rate, "bound": capacity.bound}}
    kept = dict(list(entries.items())[-_CACHED_MOST:])
    # A cache that cannot be written costs time the next time, nothing else.
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
        fresh.write_text(json.dumps(kept), encoding="utf-8")
        fresh.replace(cache)
