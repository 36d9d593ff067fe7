"""Raw results: one JSON file a section, with the machine, the date and the command that made it."""

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from harness.commands import REPOSITORY

Json: TypeAlias = dict[str, Any]

DIRECTORY = REPOSITORY / "bench" / "results"


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often is measured."""

    rounds: int
    seconds: float
    warmup: float = 1.0

    @property
    def timing(self) -> list[str]:
        """Flags of the load generator."""
        return ["--warmup", str(self.warmup)]


def machine() -> Json:
    """What the figures were measured on."""
    information = Path("/proc/cpuinfo").read_text()
    models = {line.partition(":")[2].strip() for line in information.splitlines() if line.startswith("model name")}
    memory = Path("/proc/meminfo").read_text().split()[1]
    return {
        "cpu": ", ".join(sorted(models)) or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _commit() -> str:
    finished = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, check=False, text=True)
    return finished.stdout.strip() or "unknown"


def write(section: str, settings: Settings, content: Json) -> Path:
    """Write the section's file and return its path."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / f"{section}.json"
    document = {
        "section": section,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "settings": {"rounds": settings.rounds, "seconds": settings.seconds},
        **content,
    }
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return path


def read(section: str) -> Json | None:
    """The section's file, if it has been measured."""
    path = DIRECTORY / f"{section}.json"
    if not path.exists():
        return None
    document: Json = json.loads(path.read_text())
    return document
