"""One run: a schedule through a fresh pool, and its figures."""

import math
import os
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.results import Json
from harness.results import Usage as MachineUsage

from policy import pool
from policy.drive import Record, drive, prepare
from policy.workloads import Workload

# Answers of no more tokens say too little about the time per token.
FEWEST_TOKENS = 4
# A run is flagged beyond these: then the simulators, or this client, and not the policy, decided part of its figures.
MOST_LOST_SHARE = 0.01
MOST_LAG_SECONDS = 0.005
MOST_CLIENT_SECONDS = 0.02
# The longest answers take about half of it on a loaded pool.
DRAIN_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: the same plan is measured for each policy."""

    workload: Workload
    rate: float
    """Requests a second that the schedule is drawn for."""
    seconds: float
    """Length of the arrivals."""
    warm_up: float
    """Share of that time whose requests are left out."""
    seed: int
    lead_in: bool = False
    """Half as many requests come in the time that is left out."""

    @property
    def drain(self) -> float:
        """Seconds that answers get after the last arrival; what has not ended then is counted as unfinished."""
        return max(DRAIN_SECONDS, self.seconds / 2)


def measure(plan: Plan, policy: str) -> Json:
    """Run a plan with a policy on fresh replicas.

    Raises:
        BenchError: a process did not start, or ended.
    """
    prepared = prepare(
        plan.workload.sessions(plan.rate, plan.seconds, plan.seed, quiet=plan.seconds * plan.warm_up if plan.lead_in else 0.0), pool.MODEL
    )
    with pool.running(plan.workload.hardware, policy) as running:
        before, machine, own = running.cpu_seconds(), MachineUsage.now(), _own_cpu()
        records = drive(running.host, running.port, pool.MODEL, prepared, seconds=plan.seconds, drain=plan.drain)
        after, own_after = running.cpu_seconds(), _own_cpu()
        elapsed = MachineUsage.now().clock - machine.clock
        busy = MachineUsage.now().machine - machine.machine
        states = running.states()
        cpu = {kind: round((after[kind] - before[kind]) / elapsed, 3) for kind in after} | {"client": round((own_after - own) / elapsed, 3)}
        document = {
            "replicas": list(running.replicas),
            "cpu_cores": cpu | {"machine": round(busy / elapsed, 3)},
            "cpu_share": round(sum(cpu.values()) / len(os.sched_getaffinity(0)), 3),
            "engine_lag": _lag(states, elapsed),
            "preemptions": running.preemptions(),
            "bypassed": running.bypassed(),
            "learnt": running.learnt(),
            **summary(records, plan, running.replicas),
        }
    return document | {"flags": flags(document)}


def summary(records: Sequence[Record], plan: Plan, replicas: Sequence[str]) -> Json:
    """Figures of the requests that were due after the warm-up.

    TTFT and E2E count from the time at which a request was due; what had not come when the run was cut counts with the time waited by then, so that
    a policy gains nothing from what it never answered. The other figures are of complete answers.
    """
    begin = plan.seconds * plan.warm_up
    middle = (begin + plan.seconds) / 2
    measured = [record for record in records if record.due >= begin]
    answered = [(record, record.answer) for record in measured if record.answer is not None]
    # What was not answered when the run was cut has waited at least until then.
    waits = {id(record): (record.ended if record.first_token is None else record.first_token) - record.due for record in measured if not record.error}
    whole = [(record.last_token if record.answer else record.ended) - record.due for record in measured if not record.error]
    unfinished = [record for record in measured if record.answer is None and not record.error]
    picks = Counter(answer.served for _, answer in answered)
    prompt_tokens = sum(answer.prompt_tokens for _, answer in answered)
    return {
        "requests": len(records),
        "measured": len(measured),
        "offered_rate": len(measured) / (plan.seconds - begin),
        "errors": dict(Counter(record.error for record in measured if record.error)),
        "warm_up_errors": dict(Counter(record.error for record in records if record.error and record.due < begin)),
        "unfinished": len(unfinished),
        "ttft": spread(list(waits.values())),
        "second_half": {
            "ttft": spread([waits[id(record)] for record in measured if not record.error and record.due >= middle]),
            # Ended to due: below 1, requests pile up.
            "kept_up": sum(middle <= record.ended < plan.seconds for record in records if record.answer)
            / max(1, sum(middle <= record.due < plan.seconds for record in records)),
        },
        "tpot": spread([(answer.last_token - answer.first_token) / (answer.events - 1) for _, answer in answered if answer.events > FEWEST_TOKENS]),
        "e2e": spread(whole),
        "throughput": sum(begin <= record.ended < plan.seconds for record in records if record.answer) / (plan.seconds - begin),
        "output_tokens": sum(answer.events for _, answer in answered),
        "prompt_tokens": prompt_tokens,
        "hit_ratio": sum(answer.cached_tokens for _, answer in answered) / prompt_tokens if prompt_tokens else None,
        "picks": [picks[replica] for replica in replicas],
        "client_late": spread([record.sent - record.due for record in measured]),
    }


def spread(values: Sequence[float]) -> Json | None:
    """Mean and nearest-rank percentiles; None without values."""
    if not values:
        return None
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 6)

    return {"mean": round(fmean(ordered), 6), "p50": rank(0.5), "p90": rank(0.9), "p99": rank(0.99)}


def flags(run: Json) -> list[str]:
    """What makes this run's figures doubtful."""
    found = []
    lag = run["engine_lag"]
    if lag["lost_share"] > MOST_LOST_SHARE or lag["mean_seconds"] > MOST_LAG_SECONDS:
        found.append("simulators late")
    late = run["client_late"]
    if late is not None and late["p99"] > MOST_CLIENT_SECONDS:
        found.append("client late")
    if run["bypassed"]:
        found.append("picker bypassed")
    return found


def _lag(states: Sequence[Json], seconds: float) -> Json:
    """How far the simulators were behind their own cost model: of the worst replica, the share of time lost; over all, the mean lag of a step."""
    steps = sum(state["steps"] for state in states)
    return {
        "lost_share": round(max(state["lost_seconds"] for state in states) / seconds, 5),
        "mean_seconds": round(sum(state["lag_seconds"] for state in states) / steps, 6) if steps else 0.0,
        "late_steps": sum(state["late_steps"] for state in states),
        "steps": steps,
    }


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
