"""The command line of `run.py`: searches the capacities, measures all pairs, writes results and page."""

import argparse
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from harness.commands import REPOSITORY
from harness.errors import BenchError
from harness.results import Json

from policy import page
from policy.capacity import Search
from policy.measure import Plan, measure
from policy.store import Store
from policy.workloads import WORKLOADS

RESULTS = REPOSITORY / "bench" / "results"
PAGE = Path(__file__).with_name(page.NAME)
# The first is the one that the others are compared with.
POLICIES = ("marginal-latency", "round-robin", "reference")
LOADS = (0.5, 0.8, 0.95)
# A share of the workload's guessed capacity: `--quick` shows that all works, and searches nothing.
QUICK_LOAD = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured with every policy in turn."""

    number: int
    round: int
    workload: str
    load: float

    def order(self, policies: list[str]) -> list[str]:
        """The policies, each as often first as the others."""
        shift = (self.number + self.round) % len(policies)
        return policies[shift:] + policies[:shift]


def main() -> int:
    """Run it all; the exit status."""
    options = _parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where a shell started this in the background, and so had it ignore Ctrl-C: what was started is to be stopped.
        signal.signal(number, signal.default_int_handler)
    # Without --output a quick run leaves the measured results alone.
    directory = options.output or (Path(tempfile.mkdtemp(prefix="warmroute-bench-policy-")) if options.quick else RESULTS)
    settings = {name: getattr(options, name) for name in ("rounds", "seconds", "warm_up", "lead_in", "policies", "workloads", "loads")}
    store = Store(directory, settings | {"seeds": list(range(1, options.rounds + 1))})
    try:
        _measure(options, store)
    except BenchError as error:
        print(f"bench-policy: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print(f"bench-policy: stopped; what was measured until then is in {store.path}", file=sys.stderr, flush=True)
        return 130
    finally:
        if store.document["runs"]:
            print(f"results: {store.path}, page: {_page_of(store)}", flush=True)
    return 0


def _page_of(store: Store) -> Path:
    return PAGE if store.path.parent == RESULTS else store.path.with_name(page.NAME)


def _measure(options: argparse.Namespace, store: Store) -> None:
    begin = time.monotonic()

    def tell(line: str) -> None:
        print(f"[{time.monotonic() - begin:6.0f} s] {line}", flush=True)

    for name in options.workloads:
        if name in options.capacity:
            store.document["capacity"][name] = {"rate": options.capacity[name], "how": "given with --capacity"}
        elif options.quick:
            store.document["capacity"][name] = {"rate": WORKLOADS[name].guess, "how": "guessed: --quick searches nothing"}
        else:
            tell(f"{name}: searching the capacity of the pool with {options.policies[0]}")
            search = Search(
                WORKLOADS[name], options.seconds, options.warm_up, lambda plan: measure(plan, options.policies[0]), lambda line: tell("  " + line)
            )
            found = search.find()
            if not found["rate"]:
                raise BenchError(f"{name}: no rate down to {found['tried'][-1]['rate']:.1f} requests/s stays within the limit; is the machine busy?")
            store.document["capacity"][name] = found
            tell(f"{name}: capacity {found['rate']:.1f} requests/s")
    cases = [
        Case(number, number_of_round, name, load)
        for number_of_round in range(options.rounds)
        for number, (name, load) in enumerate(product(options.workloads, options.loads))
    ]
    for done, case in enumerate(cases):
        rate = case.load * store.document["capacity"][case.workload]["rate"]
        plan = Plan(WORKLOADS[case.workload], rate, options.seconds, options.warm_up, case.round + 1, options.lead_in)
        for policy in case.order(options.policies):
            run = measure(plan, policy)
            labels: Json = {"round": case.round, "workload": case.workload, "load": case.load, "policy": policy, "rate": rate, "seed": plan.seed}
            store.document["runs"].append(labels | run)
            tell(f"{done + 1}/{len(cases)} {case.workload} {case.load:.0%} {policy}: {_line(run)}")
        # However the command ends, what it has measured so far can be read.
        store.write()
        page.write(store.document, _page_of(store), store.path)


def _line(run: Json) -> str:
    ttft, tpot = run["ttft"], run["tpot"]
    times = f"TTFT p90 {ttft['p90']:.2f} s, " if ttft else "no answers, "
    times += f"per token p90 {1_000 * tpot['p90']:.1f} ms, " if tpot else ""
    problems = [*run["flags"], *(f"{count} {kind}" for kind, count in run["errors"].items())]
    return f"{run['measured']} requests, {times}picks {run['picks']}, CPU {run['cpu_share']:.0%}" + (f" ({', '.join(problems)})" if problems else "")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="The policies under real load: simulated model servers behind a real Envoy.")
    parser.add_argument("--rounds", type=int, default=3, help="paired rounds, each with a seed of its own (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=14.0, help="length of the arrivals of each run (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, default=0.2, help="share of it whose requests are left out (default: %(default)s)")
    parser.add_argument("--lead-in", action="store_true", help="half as many requests in that share, so that empty caches are not what is measured")
    parser.add_argument("--workloads", type=_workloads, default=list(WORKLOADS), metavar="NAME,…", help=f"of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--loads", type=_loads, default=list(LOADS), metavar="SHARE,…", help="shares of the capacity (default: 0.5,0.8,0.95)")
    parser.add_argument(
        "--policies",
        type=lambda text: text.split(","),
        default=list(POLICIES),
        metavar="NAME,…",
        help=f"names, or paths of configurations (.yaml); the others are compared with the first (default: {','.join(POLICIES)})",
    )
    parser.add_argument("--capacity", type=_capacities, default={}, metavar="NAME=RATE,…", help="capacities in requests/s instead of searching them")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where results and page go (default: bench/results and bench/policy)")
    parser.add_argument("--quick", action="store_true", help="one short round at one low load: shows that all works, not how good a policy is")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.loads = 1, 3.0, [QUICK_LOAD]
    if options.rounds < 1 or not 2 <= options.seconds <= 600 or not 0 <= options.warm_up <= 0.8:
        parser.error("--rounds must be at least 1, --seconds between 2 and 600, --warm-up between 0 and 0.8")
    return options


def _workloads(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise argparse.ArgumentTypeError(f"no workload {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return names


def _loads(text: str) -> list[float]:
    loads = [float(load) for load in text.split(",")]
    if not all(0 < load <= 2 for load in loads):
        raise argparse.ArgumentTypeError(f"{text}: loads are shares of the capacity, above 0 and at most 2, such as 0.8")
    return loads


def _capacities(text: str) -> dict[str, float]:
    found = {}
    for entry in text.split(","):
        name, _, rate = entry.partition("=")
        _workloads(name)
        found[name] = float(rate)
        if not found[name] > 0:
            raise argparse.ArgumentTypeError(f"{entry}: a capacity is a number of requests a second above 0")
    return found
