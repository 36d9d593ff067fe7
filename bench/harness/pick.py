"""One pick: single decisions timed one by one, and what criterion estimates in the engine's own benches."""

import json
import subprocess
from pathlib import Path

from harness import commands, decisions
from harness.errors import BenchError
from harness.results import Json, Settings

TIME_LIMIT_SECONDS = 400


def measure(_: Settings) -> Json:
    """Time single decisions, then run the engine's benches and collect what they leave."""
    return {"single": decisions.measure(), "criterion_us": _criterion()}


def _criterion() -> Json:
    if not (commands.REPOSITORY / "rust" / "core" / "benches" / "schedule.rs").exists():
        raise BenchError("the section `pick` needs rust/core/benches/schedule.rs")
    try:
        subprocess.run(commands.pick_bench(), cwd=commands.REPOSITORY, check=True, capture_output=True, timeout=TIME_LIMIT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"cargo bench failed:\n{error.stderr.decode(errors='replace')[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cargo bench failed: {error}") from error
    return collect(commands.TARGET / "criterion" / "pick")


def collect(group: Path) -> Json:
    """Criterion's estimates of a group (median and mean, in microseconds) by name of the benchmark."""
    estimates = {}
    for path in sorted(group.glob("**/new/estimates.json")):
        document = json.loads(path.read_text())
        name = str(path.parent.parent.relative_to(group))
        estimates[name] = {kind: document[kind]["point_estimate"] / 1000 for kind in ("median", "mean")}
    return estimates
