"""The page's tables of the prefix indexes, and their targets."""

from collections.abc import Iterable, Iterator

from harness import index_figures as figures
from harness.index import NAMES
from harness.index_figures import OURS, SMG, Measure
from harness.results import Json
from harness.tables import number, table
from harness.verdict import Verdict

COLUMNS = {
    "ours": "**ours**",
    "naive": "naive map",
    "smg": "SMG `ChainIndex`",
    "smg-callback": "same, `score_into`",
    "dynamo-tree": "Dynamo `RadixTree`",
    "dynamo-positional": "Dynamo `PositionalIndexer`",
    "dynamo-compressed": "Dynamo compressed concurrent tree",
}
STATES = ("loaded", "churned", "cleared", "hole", "healed")
HEAP_LIMITS = {"a": 35.0, "b": 40.0}
CLEAR_LIMIT_MS = 2.0
# The target is no growth. Tables stand at another point between two sizes after churn than before, by less than this.
GROWTH_LIMIT = 0.5
ENDPOINTS = 4096
LONG_PROMPT_LIMIT_US = 200.0
PAIRS = 100e6
HOLDERS = (1.0, 2.0, 8.0)


def main(section: Json) -> str:
    """Every measure with all indexes; ours against the best of the others."""
    header = ("measure", "unit", *(COLUMNS[name] for name in NAMES), "ours / best other")
    rows: list[tuple[str, ...]] = [_row(section, measure) for measure in _measures(section)]
    rows += [_criterion_row(name, medians) for name, medians in section["criterion_ns"].items()]
    rows += [_wrong_row(section, state) for state in STATES]
    return table(header, rows)


def _measures(section: Json) -> list[Measure]:
    return figures.memory() + figures.queries(section) + figures.stores(section) + figures.together()


def _row(section: Json, measure: Measure) -> tuple[str, ...]:
    cells = (number(figures.of_index(section, name, measure.figure), measure.digits) for name in NAMES)
    return (measure.name, measure.unit, *cells, number(figures.ratio(section, measure)) if measure.compared else "")


def _criterion_row(name: str, medians: Json) -> tuple[str, ...]:
    others = [value for index, value in medians.items() if index != OURS]
    ratio = medians[OURS] / min(others) if OURS in medians and others else None
    cells = (number(medians[index] / 1e3 if index in medians else None) for index in NAMES)
    return (f"{name}, criterion", "µs, median", *cells, number(ratio))


def _wrong_row(section: Json, state: str) -> tuple[str, ...]:
    cells = []
    asked = ""
    for name in NAMES:
        found = figures.wrong(section, name).get(state)
        asked = f" of {found['of']:,}" if found else asked
        cells.append(_wrong(found))
    return (f"wrong answers, {state}", f"answers{asked}", *cells, "")


def _wrong(found: Json | None) -> str:
    if found is None:
        return "-"
    told = [f"{found[key]:,} {words}" for key, words in (("too_deep", "too deep"), ("too_short", "too short")) if found[key]]
    return ", ".join(told) or "0"


def long_prompt(section: Json) -> str:
    """The prompt of 240,000 tokens."""
    rows = []
    for name in NAMES:
        for case, p50, p99 in figures.long_prompts(section, name):
            held = "1/96, 2/96, … of it" if case["spread"] else "all of it"
            rows.append((COLUMNS[name], str(case["block_tokens"]), f"{case['blocks']:,}", held, number(p50, 0), number(p99, 0)))
    return table(("index", "tokens a block", "blocks", "each of 96 workers holds", "p50 µs", "p99 µs"), rows)


def memory(section: Json) -> str:
    """Ours by other counts: resident memory, and what the index itself says."""
    rows = []
    for workload in ("a", "b"):
        heap = figures.of_index(section, OURS, figures.heap(workload))
        # B comes second in its process, into memory that A has given back: what it adds to the resident memory says nothing.
        resident = figures.of_index(section, OURS, figures.resident(workload)) if workload == "a" else None
        error = figures.of_index(section, OURS, figures.gauge_error(workload))
        rows.append((workload.upper(), number(heap, 1), number(resident, 1), "-" if error is None else f"{100 * error:+.1f} %"))
    return table(("workload", "heap bytes/hb", "resident bytes/hb", "own gauge against the heap"), rows)


def plan(section: Json) -> str:
    """100 million pairs on paper: two unknowns (bytes of a block, bytes of a holder of it) from the two workloads."""
    (block, pair), rate = bytes_of_parts(section), figures.of_index(section, OURS, _slowest_store)
    if rate is None:
        return "Not computed: ours has not been measured."
    rows = []
    for holders in HOLDERS:
        gigabytes = PAIRS * (pair + block / holders) / 1e9
        rows.append(
            (f"{holders:g}", number(PAIRS / holders / 1e6, 1), number(gigabytes, 2), number(pair + block / holders, 1), number(PAIRS / rate, 0))
        )
    head = f"Computed: {block:.1f} bytes for a block that anyone holds, and {pair:.1f} for each worker that holds it (the measured heap of A and B, solved for the two)."
    header = ("holders of a block", "million blocks", "GB", "bytes/hb", "s to load, one core")
    return f"{head}\n\n{table(header, rows)}"


def bytes_of_parts(section: Json) -> tuple[float, float]:
    """Bytes of ours for each distinct block, and for each pair."""
    loads = [next(process[workload]["loaded"] for process in section["processes"] if process["subject"] == OURS) for workload in ("a", "b")]
    heaps = [figures.of_index(section, OURS, figures.heap(workload)) or 0.0 for workload in ("a", "b")]
    # heap of a pair = pair + block * distinct / pairs
    shares = [load["distinct"] / load["pairs"] for load in loads]
    block = (heaps[1] - heaps[0]) / (shares[1] - shares[0])
    return block, heaps[1] - block * shares[1]


def _slowest_store(process: Json) -> float:
    return float(min(process[workload]["loaded"]["pairs"] / process[workload]["loaded"]["cpu_s"] for workload in ("a", "b")))


def verdicts(section: Json) -> Iterator[Verdict]:
    """The targets of the index."""
    for workload, limit in HEAP_LIMITS.items():
        measured = figures.of_index(section, OURS, figures.heap(workload))
        yield Verdict(f"prefix index, {workload.upper()}: heap", limit, measured, "bytes/hb")
        grown = figures.of_index(section, OURS, figures.growth(workload))
        yield Verdict(f"prefix index, {workload.upper()}: growth after churn", GROWTH_LIMIT, grown, "bytes/hb")
    yield from _against(section, figures.queries(section), None, "the best other")
    yield from _against(section, figures.stores(section), SMG, "SMG")
    clear = figures.clear()
    yield Verdict("prefix index, clear one worker", CLEAR_LIMIT_MS, figures.of_index(section, OURS, clear.figure), "ms")
    wrong = figures.wrong(section, OURS)
    states = [wrong[state]["too_deep"] + wrong[state]["too_short"] for state in STATES if state in wrong]
    yield Verdict("prefix index, wrong answers (loaded, churned, cleared, hole, healed)", 0, sum(states) if len(states) == len(STATES) else None, "")
    named = figures.of_index(section, OURS, lambda process: process["named_of_4096"])
    yield Verdict("prefix index, endpoints told apart", ENDPOINTS, named, "", at_least=True)
    slowest = max((p50 for _, p50, _ in figures.long_prompts(section, OURS)), default=None)
    yield Verdict("prompt of 240,000 tokens, 96 endpoints, hashing included: p50", LONG_PROMPT_LIMIT_US, slowest, "µs")


def _against(section: Json, measures: Iterable[Measure], other: str | None, words: str) -> Iterator[Verdict]:
    for measure in measures:
        ratio = figures.ratio(section, measure, other)
        yield Verdict(f"prefix index, {measure.name} / {words}", 1, ratio, "x", at_least=measure.more_is_better)
