"""What would have changed: each recorded decision asked again of other policies."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from warmroute._core import Rerun
from warmroute.recording.reader import Recording, RecordingError, pieces, read_recording

if TYPE_CHECKING:
    from rich.console import Console

#: Endpoints that are listed one by one.
_ENDPOINTS_SHOWN = 16

_ALONE = "remembers earlier requests, and here each decision is asked alone"
_BY_HEADERS = "goes by request headers, which are not recorded"
_BY_CHANCE = "chooses by chance, so differences are expected"
#: Types of plugins whose answer cannot be the one that they would have given live, and why.
UNFAITHFUL: Mapping[str, str] = {
    "session-affinity-scorer": _BY_HEADERS,
    "session-affinity-filter": _BY_HEADERS,
    "session-id-producer": _BY_HEADERS,
    "agent-identity": _BY_HEADERS,
    "header-label-affinity-scorer": _BY_HEADERS,
    "header-based-testing-filter": _BY_HEADERS,
    "header-profile-handler": _BY_HEADERS,
    "no-hit-lru-scorer": _ALONE,
    "cache-aware-scorer": _ALONE,
    "bounded-hash-scorer": "hashes the prompt's blocks, which have other numbers in a recording: groups of prompts have other homes than live",
    "round-robin-picker": _ALONE,
    "endpoint-attribute-scorer": "goes by attributes of endpoints, which are not recorded",
    "endpoint-attribute-filter": "goes by attributes of endpoints, which are not recorded",
    "random-picker": _BY_CHANCE,
    "weighted-random-picker": _BY_CHANCE,
}


#: In the names of types that go by what endpoints have of the prompt.
_BY_PREFIX = ("prefix", "marginal-latency", "lmetric", "cache-aware", "token-load")


@dataclass(slots=True)
class Means:
    """Of the endpoints that were chosen, over all decisions: what the request found there."""

    uncached_tokens: float = 0.0
    queued_tokens: float = 0.0
    inflight: float = 0.0


@dataclass(slots=True)
class Counterfactual:
    """One policy against the recorded choices."""

    name: str
    decisions: int = 0
    #: Choices that differ, and the policy rates the recorded endpoint lower.
    differ: int = 0
    #: Further choices that differ, among endpoints that the policy rates alike.
    by_chance: int = 0
    #: Requests that the policy sends nowhere.
    refused: int = 0
    recorded: Means = field(default_factory=Means)
    chosen: Means = field(default_factory=Means)
    #: Choices by the endpoint's number.
    recorded_picks: Counter[int] = field(default_factory=Counter)
    picks: Counter[int] = field(default_factory=Counter)
    warnings: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the decisions, those that differ; chance left out."""
        return self.differ / self.decisions if self.decisions else 0.0


def compare(recording: Recording, policies: Mapping[str, str], seed: int = 0) -> list[Counterfactual]:
    """Ask each policy (name to the engine's JSON) about each decision. Raises OSError, RecordingError, and ValueError for a policy that cannot be asked."""
    reruns = {name: Rerun(policy, seed) for name, policy in policies.items()}
    columns: dict[str, list[dict[str, Any]]] = {name: [] for name in policies}
    for piece in pieces(recording.path):
        for name, rerun in reruns.items():
            try:
                columns[name].append(rerun.feed(piece))
            except ValueError as error:
                message = f"{recording.path}: {error}"
                raise RecordingError(message) from error
    return [_summary(name, columns[name], _warnings(recording, policy)) for name, policy in policies.items()]


def _summary(name: str, answers: list[dict[str, Any]], warnings: tuple[str, ...]) -> Counterfactual:
    result = Counterfactual(name, warnings=warnings)
    for answer in answers:
        recorded, chosen = answer["recorded"]["endpoint"], answer["chosen"]["endpoint"]
        result.decisions += len(recorded)
        result.recorded_picks.update(recorded)
        result.picks.update(endpoint for endpoint in chosen if endpoint is not None)
        for before, after, tied in zip(recorded, chosen, answer["tied"], strict=True):
            if after is None:
                result.refused += 1
            if after != before:
                result.by_chance += tied
                result.differ += not tied
    result.recorded, result.chosen = _means(answers, "recorded"), _means(answers, "chosen")
    return result


def _means(answers: list[dict[str, Any]], side: str) -> Means:
    def mean(column: str) -> float:
        values = [value for answer in answers for value in answer[side][column] if value is not None]
        return fmean(values) if values else 0.0

    return Means(mean("uncached_tokens"), mean("queued_tokens"), mean("inflight"))


def _warnings(recording: Recording, policy: str) -> tuple[str, ...]:
    types = {plugin["type"] for plugin in json.loads(policy)["plugins"]}
    warnings = [f"{name} {reason}." for name, reason in UNFAITHFUL.items() if name in types]
    if not recording.matched and any(word in name for name in types for word in _BY_PREFIX):
        warnings.append("the recorded configuration matched no prefixes, so every prompt counts as new to every endpoint.")
    return tuple(warnings)


def report(path: Path, policies: Mapping[str, str], console: "Console", seed: int = 0) -> list[Counterfactual]:
    """Print what would have changed under each policy (name to the engine's JSON). Raises as `compare` and `read_recording`."""
    # Only who prints pays for it.
    from rich.table import Table  # noqa: PLC0415

    recording = read_recording(path)
    if not recording.decisions:
        message = f"{path}: there is no decision in it; let requests pass while it is recorded"
        raise RecordingError(message)
    results = compare(recording, policies, seed)
    sampled = "" if recording.sample == 1 else f", {recording.sample:.3g} of all"
    table = Table(title=f"What would have changed: {recording.decisions} decisions{sampled}", title_justify="left")
    for heading in ("policy", "differ", "of these at equal cost", "refused", "uncached tokens", "queued prefill", "in flight"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    first = results[0].recorded
    table.add_row("recorded", "", "", "", *_numbers(first))
    for result in results:
        shares = (result.differ + result.by_chance, result.by_chance, result.refused)
        table.add_row(result.name, *(f"{count / result.decisions:.1%}" for count in shares), *_numbers(result.chosen))
    console.print(table)
    console.print(_shares(recording, results))
    for result in results:
        for warning in result.warnings:
            console.print(f"{result.name}: {warning}", style="yellow", markup=False, highlight=False)
    if recording.end is None:
        console.print("The recording has no last line: the picker was killed, or still writes. What is there is used.", style="yellow")
    console.print(
        "Differ: requests that would have gone elsewhere; at equal cost: the policy rates both endpoints alike. Means are of what each request found at the endpoint chosen for it. Each decision is asked from the recorded state: "
        "what the other choices before it would have changed is not in it.",
        style="dim",
    )
    return results


def _numbers(means: Means) -> tuple[str, str, str]:
    return f"{means.uncached_tokens:,.0f}", f"{means.queued_tokens:,.0f}", f"{means.inflight:.2f}"


def _shares(recording: Recording, results: list[Counterfactual]) -> Any:
    from rich.table import Table  # noqa: PLC0415 -- as above

    table = Table(title="Share of the requests", title_justify="left")
    table.add_column("endpoint")
    columns = [("recorded", results[0].recorded_picks), *((result.name, result.picks) for result in results)]
    for name, _ in columns:
        table.add_column(name, justify="right")
    totals: Counter[int] = Counter()
    for _, picks in columns:
        totals.update(picks)
    shown = [endpoint for endpoint, _ in totals.most_common(_ENDPOINTS_SHOWN)]
    for endpoint in sorted(shown):
        name = recording.endpoints.get(endpoint, {}).get("name", str(endpoint))
        table.add_row(name, *(_share(picks[endpoint], picks) for _, picks in columns))
    rest = totals.keys() - set(shown)
    if rest:
        table.add_row(f"{len(rest)} others", *(_share(sum(picks[endpoint] for endpoint in rest), picks) for _, picks in columns))
    return table


def _share(count: int, picks: Counter[int]) -> str:
    return f"{count / picks.total():.1%}" if picks.total() else "-"
