"""A recording as a trace: the requests as they arrived, for a simulation of the whole pool under another policy."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from warmroute.config.defaults import resolve
from warmroute.config.document import parse_document
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS
from warmroute.config.load import load_config
from warmroute.config.settings import policy_settings
from warmroute.recording.reader import Recording, RecordingError, lines, read_recording

#: Recorded block hashes are below 2^53; those that stand for blocks that nobody knows count up from here.
_UNKNOWN_BLOCKS = 2**53


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """Requests in the order of their arrival, in Mooncake's format, and what had to be assumed."""

    text: str
    requests: int
    #: Endpoints that were chosen from at the most.
    replicas: int
    #: The configuration that decided at the start, as the engine takes it.
    policy: str
    #: Sentences for the user.
    notes: tuple[str, ...]


def as_trace(path: Path) -> RecordedTrace:
    """Make a trace of a recording. Raises OSError, RecordingError, and ConfigError where the recorded configuration is none for this version."""
    recording = read_recording(path)
    decided = sorted((line for _, line in lines(path) if "candidates" in line), key=lambda line: float(line["timestamp"]))
    if not decided:
        message = f"{path}: there is no decision in it; let requests pass while it is recorded"
        raise RecordingError(message)
    notes = _notes_of(recording)
    unit = Counter(int(line["unit_tokens"]) for line in decided).most_common(1)[0][0]
    outputs = _outputs(path, decided, notes)
    made_up, unknown = 0, _UNKNOWN_BLOCKS
    text = []
    for line, output in zip(decided, outputs, strict=True):
        length = max(int(line["input_length"]), 1)
        ids = line["hash_ids"] if line["unit_tokens"] == unit else []
        expected = -(-length // unit)
        missing = max(expected - len(ids), 0)
        made_up += bool(missing)
        request: dict[str, Any] = {
            "timestamp": line["timestamp"],
            "input_length": length,
            "output_length": output,
            "hash_ids": [*ids[:expected], *range(unknown, unknown + missing)],
            "unit_tokens": unit,
        }
        unknown += missing
        if "lora" in line:
            request["lora"] = line["lora"]
        text.append(json.dumps(request))
    if made_up:
        notes.append(
            f"{made_up} of {len(decided)} prompts were recorded in other blocks than they have tokens; what is missing counts as never seen before."
        )
    replicas = max(line.get("candidates_total", len(line["candidates"]["endpoint"])) for line in decided)
    return RecordedTrace("".join(f"{line}\n" for line in text), len(decided), replicas, engine_policy(recording), tuple(notes))


def engine_policy(recording: Recording) -> str:
    """The configuration at the start of the recording, as the engine takes it. Raises ConfigError."""
    document = parse_document(recording.policy, f"the configuration in {recording.path}")
    return policy_settings(resolve(load_config(document, allow_experimental=True), SHORTEST_REFRESH_SECONDS))


def _notes_of(recording: Recording) -> list[str]:
    notes = []
    if recording.sample < 1:
        notes.append(f"only {recording.sample:.0%} of the decisions are in the recording: a simulation of them is one of a quieter pool.")
    if recording.later_policies:
        notes.append("the configuration changed while it was recorded; the first one counts as the recorded one.")
    lost = (recording.end or {}).get("lost", 0)
    if lost:
        notes.append(f"{lost} decisions were lost while it was recorded.")
    return notes


def _outputs(path: Path, decided: list[dict[str, Any]], notes: list[str]) -> list[int]:
    """Output tokens of each request: as answered, else the mean of those that are known, else the client's limit."""
    known = [int(line["output_length"]) for line in decided if line["output_length"]]
    if len(known) == len(decided):
        return known
    if known:
        mean = max(round(fmean(known)), 1)
        notes.append(
            f"the answers to {len(decided) - len(known)} of {len(decided)} requests were not read: they count as long as the others, {mean} tokens."
        )
        return [int(line["output_length"] or mean) for line in decided]
    limits = [int(line["max_tokens"]) for line in decided if line["max_tokens"]]
    if not limits:
        message = f"{path}: nothing tells how long the answers were; record with --response-usage, or let clients send max_tokens"
        raise RecordingError(message)
    mean = max(round(fmean(limits)), 1)
    notes.append("no answer was read: each counts as long as its client allowed (max_tokens); record with --response-usage to know.")
    return [int(line["max_tokens"] or mean) for line in decided]
