"""What 100 % is: the highest rate that the default policy carries, found by a short search on the same pool and machine."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import BenchError
from harness.results import Json

from policy.measure import Plan
from policy.workloads import Workload

# The study's criterion (`shared8` and others): TTFT p90 of at most this many seconds, or so many times the unloaded one, whichever is more.
# A replica that runs twice as fast as the preset has half the time.
MOST_SECONDS = 2.0
MOST_TIMES_UNLOADED = 4.0
# And answers end at least at this share of the rate at which requests come: a KV cache that is filling up shows there before it shows in TTFT.
LEAST_KEPT_UP = 0.9
UNLOADED_SHARE = 0.1
STEP = 1.25
STEPS = 8
# Each halves the step between the highest rate that passed and the lowest that did not.
HALVINGS = 2
_SEED = 1_000


@dataclass(frozen=True, slots=True)
class Search:
    """A search for one workload. `run` measures a plan with the default policy; `tell` is called with each line of progress."""

    workload: Workload
    seconds: float
    warm_up: float
    run: Callable[[Plan], Json]
    tell: Callable[[str], None]

    def find(self) -> Json:
        """The capacity in requests/s, with all that was tried."""
        unloaded = self._run(self.workload.guess * UNLOADED_SHARE)
        limit = max(MOST_SECONDS / self.workload.hardware.speed, MOST_TIMES_UNLOADED * unloaded["ttft"]["p90"])
        tried: list[Json] = []

        def passes(rate: float) -> bool:
            run = self._run(rate)
            # The second half: what piles up in a pool that is too slow shows there, and its cold start does not.
            half = run["second_half"]
            ttft = half["ttft"]["p90"]
            good = ttft <= limit and half["kept_up"] >= LEAST_KEPT_UP and not run["errors"]
            kept = {name: run[name] for name in ("cpu_share", "engine_lag", "client_late", "flags", "errors")}
            tried.append({"rate": rate, "ttft_p90": ttft, "kept_up": half["kept_up"], "passed": good, **kept})
            times = f"TTFT p90 {ttft:.2f} s of at most {limit:.2f} s, {half['kept_up']:.0%} kept up with"
            self.tell(f"{rate:6.1f} requests/s: {times}, CPU {run['cpu_share']:.0%}{_flags(run)}")
            return good

        low, high = self._bracket(passes)
        for _ in range(HALVINGS if low and high else 0):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if passes(middle) else (low, middle)
        return {
            "rate": low,
            "how": f"searched with the default policy: in the second half of a run {LEAST_KEPT_UP:.0%} kept up with and TTFT p90 within the limit",
            "limit_seconds": limit,
            "unloaded_ttft_p90": unloaded["ttft"]["p90"],
            # Neither end of the bracket missing: otherwise it is only a bound.
            "bracketed": bool(low and high),
            "tried": tried,
        }

    def _bracket(self, passes: Callable[[float], bool]) -> tuple[float, float]:
        """The highest rate that passed and the lowest that did not; 0 for one that was not found."""
        rate = self.workload.guess
        upwards = passes(rate)
        for _ in range(STEPS):
            following = rate * STEP if upwards else rate / STEP
            if passes(following) != upwards:
                return (rate, following) if upwards else (following, rate)
            rate = following
        return (rate, 0.0) if upwards else (0.0, rate)

    def _run(self, rate: float) -> Json:
        run = self.run(Plan(self.workload, rate, self.seconds, self.warm_up, _SEED))
        if run["second_half"]["ttft"] is None:
            raise BenchError(
                f"{self.workload.name}: no request in the second half of a run at {rate:.1f} requests/s: make the runs longer with --seconds"
            )
        return run


def _flags(run: Json) -> str:
    return f" ({', '.join(run['flags'])})" if run["flags"] else ""
