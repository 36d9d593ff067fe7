"""A recording is asked again under other policies, and simulated as a whole where every decision is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from warmroute.config.defaults import default_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

pytestmark = pytest.mark.usefixtures("known")


def recording(path: Path, *, sample: float = 1.0, output: int | None = 20) -> None:
    """Twelve decisions over two endpoints, all for the busier one, as round robin never would."""
    endpoints = [{"index": i, "namespace": "default", "name": f"pod-{i}", "address": f"10.0.0.{i}:8000", "labels": {}} for i in range(2)]
    header = {
        "warmroute_recording": 1,
        "started": 0.0,
        "sample": sample,
        "policy": default_plan("least-request").effective.as_yaml(),
        "endpoints": endpoints,
    }
    decision = {
        "input_length": 600,
        "output_length": output,
        "hash_ids": [1, 2],
        "unit_tokens": 512,
        "model": "m",
        "priority": 0,
        "max_tokens": None,
        "chosen": 1,
        "candidates": {
            "endpoint": [0, 1],
            "inflight": [0, 5],
            "inflight_tokens": [0, 3000],
            "prefill_tokens": [0, 600],
            "waiting": [0, 0],
            "running": [0, 5],
            "kv": [0.0, 0.1],
            "matched_tokens": [0, 0],
        },
    }
    lines = [header, *({"timestamp": 100 * index, **decision} for index in range(12))]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def test_every_decision_is_asked_again_and_the_pool_simulated_with_its_own_policy_first(replay: Callable[..., Result], tmp_path: Path) -> None:
    recording(tmp_path / "live.jsonl")
    result = replay("live.jsonl", "--policy", "least-request")
    assert result.exit_code == 0, result.stderr
    assert "What would have changed: 12 decisions" in result.stdout
    assert "100.0%" in next(line for line in result.stdout.splitlines() if "least-request" in line)
    assert "live.jsonl on 2 x h100-8b, 12 requests, seed 1: as recorded" in result.stdout
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if line.startswith("│")]
    assert rows[-3:-1] == ["recorded", "least-request"]


def test_a_sampled_recording_is_not_simulated(replay: Callable[..., Result], tmp_path: Path) -> None:
    recording(tmp_path / "live.jsonl", sample=0.1)
    result = replay("live.jsonl", "--policy", "random")
    assert result.exit_code == 0, result.stderr
    assert "What would have changed" in result.stdout
    assert "The pool is not simulated: that needs every request" in result.stdout
    assert "as recorded" not in result.stdout


def test_answers_of_unknown_length_are_told_after_what_would_have_changed(replay: Callable[..., Result], tmp_path: Path) -> None:
    recording(tmp_path / "live.jsonl", output=None)
    result = replay("live.jsonl", "--policy", "random")
    assert result.exit_code == 2
    assert "What would have changed" in result.stdout
    assert "record with `warmroute epp --response-usage`" in result.stderr


def test_a_broken_recording_is_told_with_its_line(replay: Callable[..., Result], tmp_path: Path) -> None:
    recording(tmp_path / "live.jsonl")
    with (tmp_path / "live.jsonl").open("a") as file:
        file.write("rubbish\n")
    result = replay("live.jsonl", "--policy", "random")
    assert result.exit_code == 2
    assert "live.jsonl:14: no JSON" in result.stderr
