"""A recording as a trace: the requests as they arrived, for a simulation of the whole pool under another policy."""

import io
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from warmroute.config.defaults import resolve
from warmroute.config.document import parse_document
from warmroute.config.flags import SHORTEST_REFRESH_SECONDS
from warmroute.config.load import load_config
from warmroute.config.settings import policy_settings
from warmroute.recording.reader import Recording, RecordingError, read_recording

#: Recorded block hashes are below 2^53; those that stand for blocks that nobody knows count up from here.
_UNKNOWN_BLOCKS = 2**53
#: The mean of fewer answers says little.
_ENOUGH_ANSWERS = 30
#: What the engine takes for the length of answers before it has learnt anything.
_NOT_LEARNT = 100.0
_REFUSED = range(400, 500)
_TOO_MANY = 429


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


@dataclass(frozen=True, slots=True)
class _Request:
    """What a simulation needs of a decision: a tenth of its line."""

    timestamp: float
    length: int
    output: int | None
    limit: int | None
    blocks: "array[int]"
    unit: int
    adapter: str | None


@dataclass(slots=True)
class _Requests:
    """The decisions that were requests to a model."""

    kept: list[_Request] = field(default_factory=list)
    #: Without a prompt, such as a question for the list of models.
    others: int = 0
    #: By the model server, such as for a model that it has not.
    refused: int = 0
    replicas: int = 0
    #: Lengths of answers as learnt from the engines' pages, summed over decisions.
    learnt: float = 0.0
    learnt_from: int = 0

    def add(self, line: dict[str, Any]) -> None:
        """Keep what is needed of a decision."""
        self.replicas = max(self.replicas, line.get("candidates_total", len(line["candidates"]["endpoint"])))
        output_tokens = float(line.get("curve", {}).get("output_tokens", _NOT_LEARNT))
        if output_tokens != _NOT_LEARNT:
            self.learnt += output_tokens
            self.learnt_from += 1
        status = line.get("status")
        if not line["input_length"]:
            self.others += 1
        elif status in _REFUSED and status != _TOO_MANY:
            self.refused += 1
        else:
            request = _Request(
                float(line["timestamp"]),
                int(line["input_length"]),
                line["output_length"] or None,
                line["max_tokens"] or None,
                array("Q", line["hash_ids"]),
                int(line["unit_tokens"]),
                line.get("lora"),
            )
            self.kept.append(request)


def as_trace(path: Path) -> RecordedTrace:
    """Make a trace of a recording. Raises OSError, RecordingError, and ConfigError where the recorded configuration is none for this version."""
    requests = _Requests()
    try:
        recording = read_recording(path, requests.add)
    except (KeyError, TypeError, OverflowError, AttributeError) as error:
        message = f"{path}: a decision is not as a recording has them: {error}"
        raise RecordingError(message) from error
    if not requests.kept:
        message = f"{path}: there is no request in it that a model answered; let some pass while it is recorded"
        raise RecordingError(message)
    requests.kept.sort(key=lambda request: request.timestamp)
    notes = _notes_of(recording, requests)
    unit = Counter(request.unit for request in requests.kept).most_common(1)[0][0]
    outputs = _outputs(path, requests, notes)
    made_up, unknown = 0, _UNKNOWN_BLOCKS
    text = io.StringIO()
    for request, output in zip(requests.kept, outputs, strict=True):
        ids = request.blocks.tolist() if request.unit == unit else []
        expected = -(-request.length // unit)
        missing = max(expected - len(ids), 0)
        made_up += bool(missing)
        document: dict[str, Any] = {
            "timestamp": request.timestamp,
            "input_length": request.length,
            "output_length": output,
            "hash_ids": [*ids[:expected], *range(unknown, unknown + missing)],
            "unit_tokens": unit,
        }
        unknown += missing
        if request.adapter is not None:
            document["lora"] = request.adapter
        json.dump(document, text)
        text.write("\n")
    if made_up:
        notes.append(
            f"{made_up} of {len(outputs)} prompts were recorded in other blocks than they have tokens; what is missing counts as never seen before."
        )
    return RecordedTrace(text.getvalue(), len(outputs), requests.replicas, engine_policy(recording), tuple(notes))


def engine_policy(recording: Recording) -> str:
    """The configuration at the start of the recording, as the engine takes it. Raises ConfigError."""
    document = parse_document(recording.policy, f"the configuration in {recording.path}")
    return policy_settings(resolve(load_config(document, allow_experimental=True), SHORTEST_REFRESH_SECONDS))


def _notes_of(recording: Recording, requests: _Requests) -> list[str]:
    notes = []
    if recording.sample < 1:
        notes.append(f"only {recording.sample:.3g} of the decisions are in the recording: a simulation of them is one of a quieter pool.")
    if recording.later_policies:
        notes.append("the configuration changed while it was recorded; the first one counts as the recorded one.")
    lost = (recording.end or {}).get("lost", 0)
    if lost:
        notes.append(f"{lost} decisions were lost while it was recorded.")
    if requests.refused:
        notes.append(f"{requests.refused} requests that a model server refused (status 4xx) are not simulated.")
    if requests.others:
        notes.append(f"{requests.others} requests without a prompt, such as for the list of models, are not simulated.")
    return notes


def _outputs(path: Path, requests: _Requests, notes: list[str]) -> list[int]:
    """Output tokens of each request: as answered; else a mean, of those that are known or as learnt from the engines, within the client's limit."""
    known = [request.output for request in requests.kept if request.output]
    unread = len(requests.kept) - len(known)
    if not unread:
        return known
    told = f"the answers to {unread} of {len(requests.kept)} requests were not read:"
    limits = [request.limit for request in requests.kept if request.limit]
    if len(known) >= _ENOUGH_ANSWERS or (known and not requests.learnt_from):
        mean = max(round(fmean(known)), 1)
        notes.append(f"{told} each counts as long as the others are on the mean, {mean} tokens, or as its client allowed if that is less.")
    elif requests.learnt_from:
        mean = max(round(requests.learnt / requests.learnt_from), 1)
        notes.append(
            f"{told} each counts as long as the engines' metrics pages said that answers are, {mean} tokens, or as its client allowed if that is less."
        )
    elif limits:
        mean = max(round(fmean(limits)), 1)
        notes.append(f"{told} each counts as long as its client allowed (max_tokens), which may be far too much; {_HOW_TO_KNOW}.")
        return [request.output or request.limit or mean for request in requests.kept]
    else:
        message = f"{path}: nothing tells how long the answers were; {_HOW_TO_KNOW}, or let clients send max_tokens"
        raise RecordingError(message)
    return [request.output or min(mean, request.limit or mean) for request in requests.kept]


_HOW_TO_KNOW = "record with `warmroute epp --response-usage`"
