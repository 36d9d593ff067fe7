"""The raw results of all runs in one JSON file, with the machine, the date and the command that made it. Written again after each pair of runs."""

import json
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from harness.commands import REPOSITORY
from harness.results import Json, Usage, machine

NAME = "policy.json"


class Store:
    """The results so far."""

    def __init__(self, directory: Path, settings: Json) -> None:
        """Nothing is written yet. The commit is that of the beginning."""
        self.path = directory / NAME
        self._before = Usage.now()
        self.document: Json = {
            "section": "policy",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "command": shlex.join(["python", *sys.argv]),
            "machine": machine(),
            "settings": settings,
            "capacity": {},
            "runs": [],
        }

    def write(self) -> None:
        """Write what there is."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.document["other_cores"] = round(self._before.others_until(Usage.now()), 2)
        self.path.write_text(json.dumps(self.document, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> Json:
    """The results that a command has written."""
    document: Json = json.loads(path.read_text())
    return document


def _commit() -> str:
    """The commit measured; `+` when files other than generated ones were changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, check=False, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results", ":!bench/policy/README.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")
