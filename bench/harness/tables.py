"""The page's tables, each from the raw results of its section."""

from collections.abc import Iterable, Sequence

from harness import figures
from harness.figures import Runs
from harness.results import Json
from harness.verdict import Verdict

CASES = ("8 KB", "64 KB", "400 KB", "open loop")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 2) -> str:
    """A figure with thousands separators; a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def targets(verdicts: Iterable[Verdict]) -> str:
    """Each target with what was measured."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = []
    for verdict in verdicts:
        digits = 0 if verdict.limit >= 1000 else 2
        limit = f"{'≥' if verdict.at_least else '≤'} {verdict.limit:,g} {verdict.unit}"
        note = f" ({verdict.spoiled})" if verdict.spoiled else ""
        rows.append((verdict.target, limit, f"{number(verdict.measured, digits)} {verdict.unit}", words[verdict.met] + note))
    return table(("target", "limit", "measured", ""), rows)


def hosts(section: Json) -> str:
    """Each host beside its floor."""
    runs = figures.of(section["runs"])
    rows = []
    for host in ("native", "grpcio"):
        for case in CASES:
            one = runs.where(host=host, case=case)
            for subject in ("echo", "product"):
                mine = one.where(subject=subject)
                ratio = number(one.ratio(figures.cpu())) if subject == "product" else ""
                rows.append((host, case, subject, *_load(mine), ratio, number(mine.median(figures.generator_cpu), 0), _errors(mine)))
    header = ("host", "load", "", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs a request", "x floor", "generator's CPU µs", "errors")
    return table(header, rows)


def _load(runs: Runs) -> tuple[str, ...]:
    return (
        number(runs.median(figures.rate), 0),
        *(number(runs.median(figures.latency(quantile))) for quantile in ("p50", "p99", "p99_9")),
        number(runs.median(figures.cpu()), 0),
    )


def _errors(runs: Runs) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(runs.errors.items())) or "0"


def scrape(section: Json) -> str:
    """The picker alone, watching its endpoints."""
    runs = figures.of(section["runs"])
    rows = []
    for case in ("full pages", "filtered pages", "idle"):
        one = runs.where(case=case)
        cores = number(one.median(lambda run: run["cores"]), 3)
        pages = number(one.median(lambda run: run["pages_per_second"]), 0)
        memory = number(one.median(lambda run: run["resident_bytes"] / 1e6), 0)
        rows.append((case, pages, cores, memory))
    return table(("pool", "pages/s", "cores", "resident MB"), rows)


def envoy(section: Json) -> str:
    """Behind a real Envoy."""
    runs = figures.of(section["runs"])
    rows = []
    for wiring in ("buffered", "full duplex"):
        for case in ("8 KB", "64 KB", "400 KB"):
            one = runs.where(wiring=wiring, case=case)
            for subject in ("echo", "naming echo", "product"):
                mine = one.where(subject=subject)
                ratio = number(one.ratio(figures.rate, floor="naming echo")) if subject == "product" else ""
                rows.append((wiring, case, subject, *_load(mine), number(mine.median(figures.cpu(1)), 0), ratio, _errors(mine)))
    header = ("wiring", "body", "", "requests/s", "p50 ms", "p99 ms", "p99.9 ms", "picker CPU µs", "Envoy CPU µs", "requests/s x floor", "errors")
    return table(header, rows)


def chunks(section: Json) -> str:
    """CPU per SSE chunk."""
    rows = [(name, number(figures.cpu_per_chunk(section["chunks"], process))) for name, process in (("picker", 0), ("Envoy", 1))]
    return table(("process", "CPU µs a chunk"), rows)


def pick(section: Json) -> str:
    """The engine's own benches."""
    rows = [(f"`{name}`", number(figure["median"]), number(figure["mean"])) for name, figure in section["criterion_us"].items()]
    return table(("criterion benchmark", "median µs", "mean µs"), rows)


def plugin(section: Json) -> str:
    """Each host with the scorer in Python and without it."""
    runs = figures.of(section["runs"])
    rows = []
    for host in ("native", "grpcio"):
        one = runs.where(host=host)
        for subject in ("without", "with"):
            mine = one.where(subject=subject)
            more = figures.plugin_cost(one, section["single"]["function_us"]) if subject == "with" else None
            quantiles = (number(mine.median(figures.latency(quantile)), 3) for quantile in ("p50", "p99"))
            cells = (number(mine.median(figures.rate), 0), *quantiles, number(mine.median(figures.cpu()), 0))
            rows.append((host, subject, *cells, number(more, 1) if more is not None else "", _errors(mine)))
    header = ("host", "scorer", "requests/s", "p50 ms", "p99 ms", "CPU µs a request", "p50 µs more, beyond its work", "errors")
    return table(header, rows)
