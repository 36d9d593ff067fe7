"""Recorded behind real Envoy."""

from pathlib import Path

import pytest

from e2e.harness import SOON, eventually, run_to_the_end, running
from policies import policy
from warmroute.recording import compare, read_recording

from .support import decisions

CANARY = "canary-9c1e44"


def test_a_gateway_records_and_its_recording_can_be_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "recorded.jsonl"
    with running("--sim", "3", "--sim-preset", "instant", "--record-decisions", str(path)) as gateway:
        for number in range(40):
            gateway.complete(f"{CANARY} {number % 4} " + "words " * 500, headers={"x-secret": CANARY}).raise_for_status()
        eventually(lambda: path.exists() and len(decisions_so_far(path)) >= 40, "all requests in the file", SOON)
    assert CANARY not in path.read_text()
    recorded = decisions(path)
    assert {line["status"] for line in recorded} == {200}
    recording = read_recording(path)
    assert recording.end is not None
    assert recording.end["reason"] == "stopped"
    assert len(recording.endpoints) == 3
    [same] = compare(recording, {"same": policy({"type": "marginal-latency-scorer", "weight": 1})})
    assert same.decisions == len(recorded)
    assert same.share <= 0.01


def decisions_so_far(path: Path) -> list[str]:
    """Lines that are decisions, also while the last is written."""
    return [line for line in path.read_text().splitlines() if '"candidates"' in line]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--record-sample", "0.5"), "--record-sample needs --record-decisions"), (("--record-decisions", "{used}"), "the file is in use")],
)
def test_what_cannot_be_recorded_is_told_before_anything_starts(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    used = tmp_path / "used.jsonl"
    used.write_text("precious\n")
    done = run_to_the_end("--sim", "1", *(argument.format(used=used) for argument in arguments))
    assert done.returncode != 0
    assert message in done.stderr
    assert used.read_text() == "precious\n"
