"""One pick, from the engine's own benches: what criterion estimates, and single picks timed one by one."""

import json
import os
import subprocess
from pathlib import Path

from harness import commands
from harness.errors import BenchError
from harness.results import Json, Settings

TIME_LIMIT_SECONDS = 400
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or commands.REPOSITORY / "target")
# Written by the engine's bench: {"endpoints", "prompt_bytes", "picks", "p50_us", "p99_us"} of picks timed one by one.
SINGLE_PICKS = TARGET / "pick-latency.json"


def measure(_: Settings) -> Json:
    """Run the engine's benches and collect what they leave."""
    if not (commands.REPOSITORY / "rust" / "core" / "benches" / "schedule.rs").exists():
        raise BenchError("the section `pick` needs rust/core/benches/schedule.rs")
    SINGLE_PICKS.unlink(missing_ok=True)
    try:
        subprocess.run(commands.pick_bench(), cwd=commands.REPOSITORY, check=True, capture_output=True, timeout=TIME_LIMIT_SECONDS)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"cargo bench failed:\n{error.stderr.decode(errors='replace')[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cargo bench failed: {error}") from error
    return collect(TARGET)


def collect(target: Path) -> Json:
    """Criterion's estimates (median and mean, in microseconds) by name of the benchmark, and the single picks if there are any."""
    criterion = target / "criterion"
    estimates = {}
    for path in sorted(criterion.glob("**/new/estimates.json")):
        document = json.loads(path.read_text())
        name = str(path.parent.parent.relative_to(criterion))
        estimates[name] = {kind: document[kind]["point_estimate"] / 1000 for kind in ("median", "mean")}
    single = json.loads(SINGLE_PICKS.read_text()) if SINGLE_PICKS.exists() else None
    return {"criterion_us": estimates, "single_picks": single}
