"""One pick: what pytest-benchmark times through the extension module, and what criterion estimates in the engine's own benches."""

import json
import subprocess
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from harness import commands
from harness.errors import BenchError
from harness.results import Json, Settings

TIME_LIMIT_SECONDS = 400


def measure(_: Settings) -> Json:
    """Run the benchmark of single decisions, then the engine's benches and collect what they leave."""
    return {"single": _single(), "criterion_us": _criterion()}


def _single() -> Json:
    with TemporaryDirectory() as folder:
        report = Path(folder) / "pick.json"
        run(commands.single_picks(report))
        (benchmark,) = json.loads(report.read_text())["benchmarks"]
    seconds = benchmark["stats"]["data"]
    percentiles = quantiles(seconds, n=100)
    return benchmark["extra_info"] | {"decisions": len(seconds), "p50_us": percentiles[49] * 1e6, "p99_us": percentiles[98] * 1e6}


def run(command: list[str]) -> None:
    """Run a benchmark to its end. Raises BenchError with what it told."""
    try:
        subprocess.run(command, cwd=commands.REPOSITORY, check=True, capture_output=True, timeout=TIME_LIMIT_SECONDS)
    except subprocess.CalledProcessError as error:
        told = (error.stdout + error.stderr).decode(errors="replace")[-2000:]
        raise BenchError(f"{' '.join(command[:4])} failed:\n{told}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{' '.join(command[:4])} failed: {error}") from error


def _criterion() -> Json:
    run(commands.pick_bench())
    return collect(commands.TARGET / "criterion" / "pick")


def collect(group: Path) -> Json:
    """Criterion's estimates of a group (median and mean, in microseconds) by name of the benchmark."""
    estimates = {}
    for path in sorted(group.glob("**/new/estimates.json")):
        document = json.loads(path.read_text())
        name = str(path.parent.parent.relative_to(group))
        estimates[name] = {kind: document[kind]["point_estimate"] / 1000 for kind in ("median", "mean")}
    return estimates
