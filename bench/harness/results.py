"""Raw results: one JSON file a section, with the machine, the date and the command that made it."""

import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import time
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
    warmup: float = 0.5

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
    }


def _commit() -> str:
    """The commit measured; `+` when files other than the results themselves were changed since."""

    def git(*arguments: str) -> str:
        finished = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False, text=True)
        return finished.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!bench/README.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far: of the whole machine, and of this process with its children that have ended."""

    machine: float
    own: float
    clock: float

    @classmethod
    def now(cls) -> "Usage":
        """What has been used up to now."""
        # user nice system idle iowait irq softirq steal: time that another virtual machine took counts as other work, too.
        ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        own = sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
        return cls((sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own, time.monotonic())

    def others_until(self, after: "Usage") -> float:
        """Cores that something other than the bench used from here to `after`."""
        return max(0.0, (after.machine - self.machine) - (after.own - self.own)) / (after.clock - self.clock)


def write(section: str, settings: Settings, other_cores: float, content: Json) -> Path:
    """Write the section's file and return its path. `other_cores`: what else kept the machine busy meanwhile."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    path = DIRECTORY / f"{section}.json"
    document = {
        "section": section,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "other_cores": round(other_cores, 2),
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
