"""The targets, and whether the measured figures meet them."""

from collections.abc import Iterator

from harness import figures, index_tables
from harness.figures import Runs
from harness.results import Json
from harness.verdict import Verdict

PLUGIN_US = 30
PAGES_PER_SECOND = 2000.0
# Less than the full rate of pages would be a cheaper job than the one asked for.
FULL_RATE = 0.95
# The clock tick of /proc leaves about this much uncertain; processing a chunk costs 4 to 9 µs.
FREE_CHUNK_US = 0.5


def verdicts(sections: dict[str, Json]) -> Iterator[Verdict]:
    """All targets of which the section has been measured."""
    if "extproc" in sections:
        runs = figures.of(sections["extproc"]["runs"])
        yield from _native(runs.where(host="native"))
        yield from _grpcio(runs.where(host="grpcio"))
    if "pick" in sections:
        single = sections["pick"]["single"]
        yield Verdict("one pick, 100 endpoints, 8 KB prompt: p50", 20, single["p50_us"], "µs")
        yield Verdict("one pick, 100 endpoints, 8 KB prompt: p99", 100, single["p99_us"], "µs")
    if "plugin" in sections:
        yield from _plugin(sections["plugin"])
    if "scrape" in sections:
        yield from _scrape(sections["scrape"])
    if "envoy" in sections:
        yield from _envoy(sections["envoy"])
    if "index" in sections:
        yield from index_tables.verdicts(sections["index"])


def _spoiled(runs: Runs) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(runs.errors.items()))


def _native(runs: Runs) -> Iterator[Verdict]:
    for case, limit in (("8 KB", 1.6), ("64 KB", 1.6), ("400 KB", 2.0)):
        one = runs.where(case=case)
        yield Verdict(f"native host, {case}: CPU per request / echo floor", limit, one.ratio(figures.cpu()), "x", spoiled=_spoiled(one))
    product = runs.where(subject="product", case="8 KB")
    yield Verdict("native host, 8 KB: requests/s", 12_000, product.median(figures.rate), "/s", at_least=True, spoiled=_spoiled(product))
    open_loop = runs.where(subject="product", case="open loop")
    yield Verdict("native host, open loop at 1,000/s: p99", 1.0, open_loop.median(figures.latency("p99")), "ms", spoiled=_spoiled(open_loop))


def _grpcio(runs: Runs) -> Iterator[Verdict]:
    for case in ("8 KB", "64 KB", "400 KB"):
        one = runs.where(case=case)
        yield Verdict(f"grpcio host, {case}: CPU per request / echo floor", 1.25, one.ratio(figures.cpu()), "x", spoiled=_spoiled(one))
    open_loop = runs.where(subject="product", case="open loop")
    yield Verdict("grpcio host, open loop at 1,000/s: p50", 1.0, open_loop.median(figures.latency("p50")), "ms", spoiled=_spoiled(open_loop))


def _plugin(section: Json) -> Iterator[Verdict]:
    single = section["single"]
    cost = single["with_us"] - single["without_us"] - single["function_us"]
    what = "scorer in Python, 100 endpoints, beyond its own work"
    yield Verdict(f"{what}: one decision, median", PLUGIN_US, cost, "µs")
    runs = figures.of(section["runs"])
    for host in ("native", "grpcio"):
        one = runs.where(host=host)
        yield Verdict(
            f"{what}: one request, {host} host, p50", PLUGIN_US, figures.plugin_cost(one, single["function_us"]), "µs", spoiled=_spoiled(one)
        )


def _scrape(section: Json) -> Iterator[Verdict]:
    runs = figures.of(section["runs"])
    for case, limit in (("full pages", 0.3), ("filtered pages", 0.15)):
        one = runs.where(case=case)
        pages = one.median(lambda run: run["pages_per_second"]) or 0
        spoiled = f"only {pages:,.0f} of {PAGES_PER_SECOND:,.0f} pages/s were read" if pages < FULL_RATE * PAGES_PER_SECOND else ""
        cores = one.median(lambda run: run["cores"])
        yield Verdict(f"100 endpoints scraped every 50 ms, {case}", limit, cores, "cores", spoiled=spoiled)
    memory = runs.where(case="idle").median(lambda run: run["resident_bytes"])
    yield Verdict("idle picker with 100 endpoints: resident", 150, memory and memory / 1e6, "MB")


def _envoy(section: Json) -> Iterator[Verdict]:
    runs = figures.of(section["runs"])
    for wiring in ("buffered", "full duplex"):
        for case in ("8 KB", "64 KB", "400 KB"):
            one = runs.where(wiring=wiring, case=case)
            for floor in ("echo", "naming echo"):
                ratio = one.ratio(figures.rate, floor=floor)
                target = f"through Envoy, {wiring}, {case}: requests/s / {floor}"
                yield Verdict(target, 0.9, ratio, "x", at_least=True, spoiled=_spoiled(one))
    chunks = figures.of(section["chunks"])
    cost = figures.cpu_per_chunk(chunks.runs, 0)
    yield Verdict("through Envoy: picker CPU per SSE chunk", FREE_CHUNK_US, cost, "µs", spoiled=_spoiled(chunks))
    if section["memory"]["endpoints"] == 100:
        total = (section["memory"]["picker_bytes"] + section["memory"]["envoy_bytes"]) / 1e6
        yield Verdict("idle gateway (picker and Envoy) with 100 endpoints: resident", 150, total, "MB")
