"""Policies ranked over several workloads: geometric means of the ratios to the best policy of each workload."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from warmroute.replay.measures import E2E_MEAN, HIT_RATIO, THROUGHPUT, TPOT_P90, TTFT_MEAN, TTFT_P90, Measure, median
from warmroute.replay.run import Level, Outcome

#: What is ranked, in the order of the columns. Of throughput more is better, of the others less; the hit ratio is shown as it is.
RATIOS = (TTFT_MEAN, TTFT_P90, TPOT_P90, E2E_MEAN, THROUGHPUT)
_TTFT, _E2E = RATIOS.index(TTFT_MEAN), RATIOS.index(E2E_MEAN)


@dataclass(frozen=True, slots=True)
class Rank:
    """A policy at a level. None: on some workload nothing was measured, or nothing that a ratio can be taken to.

    `ratios`: geometric means by `RATIOS`, 1 where it is the best on every workload; `hit`: mean hit ratio; `worst` and `worst_workload`: its largest
    ratio of mean TTFT; `end_to_end` and `end_to_end_workload`: the same of mean E2E.
    """

    policy: str
    ratios: tuple[float | None, ...]
    hit: float | None
    worst: float | None
    worst_workload: str
    end_to_end: float | None
    end_to_end_workload: str


def ranked(by_workload: Mapping[str, Sequence[Outcome]]) -> dict[str, list[Rank]]:
    """By level's words, the policies with the best mean E2E first. Levels are shares of capacity where loads were asked for."""
    levels = dict.fromkeys(_words(outcome.level) for outcomes in by_workload.values() for outcome in outcomes)
    policies = dict.fromkeys(outcome.policy for outcomes in by_workload.values() for outcome in outcomes)
    found = {}
    for words in levels:
        ranks = [_rank(policy, list(policies), by_workload, words) for policy in policies]
        found[words] = sorted(ranks, key=lambda rank: math.inf if (mean := rank.ratios[_E2E]) is None else mean)
    return found


def print_ranking(console: Console, by_workload: Mapping[str, Sequence[Outcome]]) -> None:
    """One table a level."""
    for words, ranks in ranked(by_workload).items():
        table = Table(
            title=f"{words}: {len(by_workload)} workloads ({', '.join(by_workload)})",
            caption="geometric means of the ratios to the best policy of each workload (throughput: the best is 1, less is worse); hit: mean; "
            "worst: largest ratio on one workload",
            caption_justify="left",
        )
        table.add_column("policy", no_wrap=True)
        for measure in RATIOS:
            table.add_column(measure.title, justify="right", no_wrap=True)
        for title in ("hit %", "worst TTFT mean", "worst E2E mean"):
            table.add_column(title, justify="right", no_wrap=True)
        for rank in ranks:
            cells = [_shown(ratio) for ratio in rank.ratios]
            hit = "-" if rank.hit is None else HIT_RATIO.shown(rank.hit)
            worst = (_at(rank.worst, rank.worst_workload), _at(rank.end_to_end, rank.end_to_end_workload))
            table.add_row(*(Text(cell) for cell in (rank.policy, *cells, hit, *worst)))
        console.print(table)


def _words(level: Level) -> str:
    # Of a load: the rate differs from workload to workload.
    return Level(level.rate).words if level.load is None else f"load {level.load:g}"


def _rank(policy: str, policies: Sequence[str], by_workload: Mapping[str, Sequence[Outcome]], words: str) -> Rank:
    at_level = {workload: [outcome for outcome in outcomes if _words(outcome.level) == words] for workload, outcomes in by_workload.items()}
    by_measure = [
        {workload: _ratio(measure, policy, policies, outcomes) for workload, outcomes in at_level.items() if outcomes} for measure in RATIOS
    ]
    hits = [median(HIT_RATIO, _results(outcomes, policy)) for outcomes in at_level.values() if outcomes]
    worst, worst_workload = _largest(by_measure[_TTFT])
    end_to_end, end_to_end_workload = _largest(by_measure[_E2E])
    known = [hit for hit in hits if hit is not None]
    return Rank(
        policy,
        tuple(_geometric_mean(list(ratios.values())) for ratios in by_measure),
        statistics.fmean(known) if known and len(known) == len(hits) else None,
        worst,
        worst_workload,
        end_to_end,
        end_to_end_workload,
    )


def _ratio(measure: Measure, policy: str, policies: Sequence[str], outcomes: Sequence[Outcome]) -> float | None:
    values = [value for name in policies if (value := median(measure, _results(outcomes, name))) is not None]
    own = median(measure, _results(outcomes, policy))
    if own is None:
        return None
    best = max(values) if measure is THROUGHPUT else min(values)
    return own / best if best > 0 and own > 0 else None


def _results(outcomes: Sequence[Outcome], policy: str) -> list[Mapping[str, object]]:
    return [outcome.result for outcome in outcomes if outcome.policy == policy]


def _geometric_mean(ratios: Sequence[float | None]) -> float | None:
    known = [ratio for ratio in ratios if ratio is not None]
    # A mean without the workload on which nothing was measured would praise whoever failed there.
    return statistics.geometric_mean(known) if known and len(known) == len(ratios) else None


def _largest(ratios: Mapping[str, float | None]) -> tuple[float | None, str]:
    known = {workload: ratio for workload, ratio in ratios.items() if ratio is not None}
    if not known:
        return None, ""
    workload = max(known, key=lambda name: known[name])
    return known[workload], workload


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3f}" if ratio < 10 else f"{ratio:,.1f}"  # noqa: PLR2004 - three or four digits


def _at(ratio: float | None, workload: str) -> str:
    return "-" if ratio is None else f"{_shown(ratio)} {workload}"
