"""Measures the policies under real load: raw results to bench/results/policy.json, then bench/policy/README.md. `make bench-policy` runs it."""

import sys
from pathlib import Path

# This folder would stand there, whose modules are those of a package in bench/.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from policy.command import main  # noqa: E402 - found by the line above

if __name__ == "__main__":
    sys.exit(main())
