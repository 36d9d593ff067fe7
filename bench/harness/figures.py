"""Figures from raw results: medians over the rounds, and medians of the ratios within each round."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from harness.results import Json

Figure = Callable[[Json], float | None]


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of one section, narrowed down by their labels."""

    runs: tuple[Json, ...]

    def where(self, **labels: object) -> "Runs":
        """Only the runs with these labels."""
        return Runs(tuple(run for run in self.runs if all(run.get(key) == value for key, value in labels.items())))

    def median(self, figure: Figure) -> float | None:
        """Median over the rounds; None without a figure."""
        values = [value for run in self.runs if (value := figure(run)) is not None]
        return median(values) if values else None

    def ratio(self, figure: Figure, *, product: str = "product", floor: str = "echo") -> float | None:
        """Median over the rounds of product / floor, each within its own round."""
        floors = {run["round"]: figure(run) for run in self.where(subject=floor).runs}
        ratios = []
        for run in self.where(subject=product).runs:
            value, base = figure(run), floors.get(run["round"])
            if value is not None and base:
                ratios.append(value / base)
        return median(ratios) if ratios else None

    @property
    def errors(self) -> dict[str, int]:
        """All errors of these runs by kind."""
        total: dict[str, int] = {}
        for run in self.runs:
            for kind, count in run["report"]["errors"].items():
                total[kind] = total.get(kind, 0) + count
        return total


def of(content: Iterable[Json]) -> Runs:
    """All runs."""
    return Runs(tuple(content))


def cpu(process: int = 0) -> Figure:
    """Microseconds of CPU per request of a watched process."""
    return lambda run: run["report"]["processes"][process]["cpu_us_per_request"]


def rate(run: Json) -> float | None:
    """Requests per second."""
    value: float = run["report"]["requests_per_second"]
    return value


def latency(quantile: str) -> Figure:
    """Milliseconds from the intended send to the answer."""

    def figure(run: Json) -> float | None:
        latencies = run["report"]["latency_ms"]
        return None if latencies is None else float(latencies[quantile])

    return figure


def generator_cpu(run: Json) -> float | None:
    """Microseconds of CPU per request of the load generator itself."""
    value: float | None = run["report"]["generator"]["cpu_us_per_request"]
    return value


def cpu_per_chunk(chunks: Iterable[Json], process: int) -> float | None:
    """Microseconds of CPU of a process per event, from two lengths of answers at the same rate of requests: the slope between them."""
    runs = of(chunks)
    lengths = sorted({run["chunks"] for run in runs.runs})
    slopes = []
    for number in sorted({run["round"] for run in runs.runs}):
        reports = [run["report"] for length in (lengths[0], lengths[-1]) for run in runs.where(round=number, chunks=length).runs]
        if len(reports) == 2 and (events := reports[1]["events"] - reports[0]["events"]) > 0:
            seconds = [report["processes"][process]["cpu_seconds"] for report in reports]
            slopes.append((seconds[1] - seconds[0]) * 1e6 / events)
    return median(slopes) if slopes else None


def plugin_cost(runs: Runs, function_us: float) -> float | None:
    """Microseconds that a request takes longer with the scorer in Python than without it, beyond the function's own; median over the rounds of p50."""
    without = {run["round"]: latency("p50")(run) for run in runs.where(subject="without").runs}
    differences = []
    for run in runs.where(subject="with").runs:
        value, base = latency("p50")(run), without.get(run["round"])
        if value is not None and base is not None:
            differences.append((value - base) * 1000 - function_us)
    return median(differences) if differences else None
