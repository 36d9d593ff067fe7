"""The exact prefix index beside public ones: one process an index and round, then all of them in one criterion run."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from harness import commands
from harness.errors import BenchError
from harness.results import Json, Settings

NAMES = ("ours", "naive", "smg", "smg-callback", "dynamo-tree", "dynamo-positional", "dynamo-compressed")
# Where the recorded traces lie, if not beside the repository.
TRACES_VARIABLE = "WARMROUTE_TRACES"
CRITERION = commands.INDEX_TARGET / "criterion"
BUILD_LIMIT_SECONDS = 1200
RUN_LIMIT_SECONDS = 300


def measure(settings: Settings) -> Json:
    """Build the package, take every index through the workloads in each round, run criterion once."""
    _run(commands.index_build(), BUILD_LIMIT_SECONDS)
    trace = _trace()
    processes = []
    for round_ in range(settings.rounds):
        # The order turns, so that none always follows the same neighbour.
        for name in NAMES[round_ % len(NAMES) :] + NAMES[: round_ % len(NAMES)]:
            # The answers are the same in every round: compared once.
            told = _run(commands.index_measure(name, trace, verify=round_ == 0), RUN_LIMIT_SECONDS)
            processes.append({"round": round_, **json.loads(told)})
    # What an earlier run left would be read as this one's.
    shutil.rmtree(CRITERION, ignore_errors=True)
    _run(commands.index_queries(), BUILD_LIMIT_SECONDS)
    return {"trace": trace.name if trace else None, "processes": processes, "criterion_ns": _criterion()}


def _trace() -> Path | None:
    folder = os.environ.get(TRACES_VARIABLE) or commands.REPOSITORY.parent / "shared" / "data" / "traces"
    path = Path(folder) / "conversation_trace.jsonl"
    return path if path.exists() else None


def _run(command: list[str], limit: float) -> bytes:
    # In the environment, since criterion looks for its folder there.
    environment = os.environ | {"CARGO_TARGET_DIR": str(commands.INDEX_TARGET)}
    try:
        return subprocess.run(command, cwd=commands.REPOSITORY, check=True, capture_output=True, timeout=limit, env=environment).stdout
    except subprocess.CalledProcessError as error:
        raise BenchError(f"{' '.join(command)} failed:\n{error.stderr.decode(errors='replace')[-2000:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{' '.join(command)} failed: {error}") from error


def _criterion() -> Json:
    """Criterion's median by query and index."""
    medians: Json = {}
    for path in sorted(CRITERION.glob("*/*/new/benchmark.json")):
        benchmark = json.loads(path.read_text())
        estimates = json.loads(path.with_name("estimates.json").read_text())
        medians.setdefault(benchmark["group_id"], {})[benchmark["function_id"]] = estimates["median"]["point_estimate"]
    return medians
