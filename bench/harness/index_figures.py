"""Figures of the prefix indexes from their raw results: what is measured, how, and who is best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from harness.index import NAMES
from harness.results import Json

OURS = "ours"
SMG = "smg"
A_QUERIES = ("hot64@78", "uniq80", "miss80")
B_QUERIES = ("single@128", "single@78")

Figure = Callable[[Json], float | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One row: a figure of each process, and which way is better."""

    name: str
    unit: str
    figure: Figure
    digits: int = 1
    more_is_better: bool = False
    # Compared with the best of the others; without that a ratio would divide by nothing.
    compared: bool = True


def of_index(section: Json, name: str, figure: Figure) -> float | None:
    """Median over the processes of one index."""
    values = [value for process in section["processes"] if process["subject"] == name and (value := figure(process)) is not None]
    return median(values) if values else None


def best_other(section: Json, measure: Measure) -> tuple[str, float] | None:
    """The best index that is not ours, with its figure."""
    others = [(name, value) for name in NAMES if name != OURS and (value := of_index(section, name, measure.figure)) is not None]
    if not others:
        return None
    choose = max if measure.more_is_better else min
    return choose(others, key=lambda other: other[1])


def ratio(section: Json, measure: Measure, other: str | None = None) -> float | None:
    """Ours / the best of the others, or ours / `other`."""
    ours = of_index(section, OURS, measure.figure)
    if other is None:
        best = best_other(section, measure)
        theirs = best[1] if best else None
    else:
        theirs = of_index(section, other, measure.figure)
    return ours / theirs if ours is not None and theirs else None


def memory() -> list[Measure]:
    """Bytes for each pair of block and holder."""
    return [
        Measure("A heap", "bytes/hb", heap("a")),
        Measure("B heap", "bytes/hb", heap("b")),
        Measure("A growth after churn", "bytes/hb", growth("a"), compared=False),
        Measure("B growth after churn", "bytes/hb", growth("b"), compared=False),
    ]


def queries(section: Json) -> list[Measure]:
    """Times of single queries."""
    measures = []
    for workload, kinds in (("a", A_QUERIES), ("b", B_QUERIES)):
        measures += [
            Measure(f"{workload.upper()} {kind} {quantile}", "µs", _query(workload, kind, quantile), digits=2)
            for kind in kinds
            for quantile in ("p50", "p99")
        ]
    if section["trace"]:
        measures += [Measure(f"C query {quantile}", "µs", _conversation(quantile), digits=2) for quantile in ("p50", "p99")]
    return measures


def stores(section: Json) -> list[Measure]:
    """Million blocks for each CPU-second."""

    def measure(name: str, figure: Figure) -> Measure:
        return Measure(name, "million blocks/CPU-s", figure, more_is_better=True)

    measures = [
        measure("store A", lambda process: process["a"]["loaded"]["pairs"] / process["a"]["loaded"]["cpu_s"] / 1e6),
        measure("store B", lambda process: process["b"]["loaded"]["pairs"] / process["b"]["loaded"]["cpu_s"] / 1e6),
        measure("store+remove A", lambda process: process["a"]["churned"]["blocks"] / process["a"]["churned"]["cpu_s"] / 1e6),
        measure("store+remove B", lambda process: process["b"]["churned"]["blocks"] / process["b"]["churned"]["cpu_s"] / 1e6),
    ]
    if section["trace"]:
        measures.append(measure("store+remove C", lambda process: process["c"]["blocks"] / process["c"]["cpu_s"] / 1e6))
    return measures


def together() -> list[Measure]:
    """Reader and writer at once, and clearing a worker."""
    return [
        Measure(
            "A reader beside a writer",
            "million queries/CPU-s",
            lambda process: process["a"]["beside"]["million_queries_per_cpu_s"],
            2,
            more_is_better=True,
        ),
        Measure("A reader beside a writer, p99", "µs", lambda process: process["a"]["beside"]["queries"]["p99_ns"] / 1e3, 2),
        Measure(
            "A writer beside a reader",
            "million blocks/CPU-s",
            lambda process: process["a"]["beside"]["million_blocks_per_cpu_s"],
            more_is_better=True,
        ),
        clear(),
    ]


def clear() -> Measure:
    """Clearing one worker of A."""
    return Measure("clear one worker (A)", "CPU ms", lambda process: median(process["a"]["clear_cpu_s"]) * 1e3, 2)


def heap(workload: str) -> Figure:
    """Live heap bytes for each pair after the load."""
    return lambda process: process[workload]["loaded"]["heap_bytes"] / process[workload]["loaded"]["pairs"]


def resident(workload: str) -> Figure:
    """Growth of resident memory for each pair during the load."""
    return lambda process: process[workload]["loaded"]["resident_bytes"] / process[workload]["loaded"]["pairs"]


def gauge_error(workload: str) -> Figure:
    """How far the index's own gauge is from the heap's bytes, as a share of them."""

    def figure(process: Json) -> float | None:
        loaded = process[workload]["loaded"]
        return None if loaded["gauge_bytes"] is None else loaded["gauge_bytes"] / loaded["heap_bytes"] - 1

    return figure


def growth(workload: str) -> Figure:
    """Heap bytes for each pair that churn left behind, upkeep done where the index wants it."""

    def figure(process: Json) -> float:
        churned = process[workload]["churned"]
        after = churned["growth_after_upkeep_bytes"]
        grown = churned["growth_bytes"] if after is None else after
        return float(grown / process[workload]["loaded"]["pairs"])

    return figure


def wrong(section: Json, name: str) -> Json:
    """Wrong answers by state, of the process that compared them."""
    for process in section["processes"]:
        if process["subject"] == name and process["a"]["wrong"]:
            found: Json = process["a"]["wrong"]
            return found
    return {}


def long_prompts(section: Json, name: str) -> Iterator[tuple[Json, float, float]]:
    """Each case of the prompt of 240,000 tokens with its median p50 and p99 in microseconds."""
    mine = [process["long_prompt"] for process in section["processes"] if process["subject"] == name]
    for cases in zip(*mine, strict=True):
        yield cases[0], *(median(case["times"][quantile] for case in cases) / 1e3 for quantile in ("p50_ns", "p99_ns"))


def _query(workload: str, kind: str, quantile: str) -> Figure:
    return lambda process: process[workload]["queries"][kind][f"{quantile}_ns"] / 1e3


def _conversation(quantile: str) -> Figure:
    return lambda process: process["c"]["queries"][f"{quantile}_ns"] / 1e3 if process["c"] else None
