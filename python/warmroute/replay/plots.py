"""Results as pictures: latency over load, throughput over rate, hit ratio and imbalance. Needs matplotlib (the extra `plots`)."""

from __future__ import annotations

import importlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmroute.config.errors import UsageError
from warmroute.replay.measures import (
    E2E_MEAN,
    HIT_RATIO,
    IMBALANCE_INFLIGHT,
    IMBALANCE_REQUESTS,
    THROUGHPUT,
    TPOT_P90,
    TTFT_P90,
    Measure,
    median,
)
from warmroute.replay.run import Level, Outcome

# Colours that the colour-blind tell apart (Okabe and Ito, "Color Universal Design", 2008), with a marker each for those who see none.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osD^vPX*"
_DOTS_PER_INCH = 120
# Of the caption on an inch: long commands go over several lines.
_CAPTION_CHARACTERS = 13


@dataclass(frozen=True, slots=True)
class Picture:
    """What all pictures of a comparison say of it. `command`: the line that makes them again, with its seeds."""

    title: str
    command: str


def need_matplotlib() -> None:
    """Raises UsageError that says how to get it; before the simulation, not after."""
    _matplotlib()


def make_folder(folder: Path) -> None:
    """Raises UsageError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--plot {folder}: {error.strerror or error}") from error


def draw(folder: Path, outcomes: Sequence[Outcome], picture: Picture) -> list[Path]:
    """Write the PNGs; their paths. Raises UsageError where they cannot be written."""
    pyplot = _matplotlib()
    make_folder(folder)
    try:
        return [
            _lines(pyplot, folder / "latency.png", (TTFT_P90, TPOT_P90, E2E_MEAN), outcomes, picture, logarithmic=True),
            _lines(pyplot, folder / "throughput.png", (THROUGHPUT,), outcomes, picture, logarithmic=False),
            _bars(pyplot, folder / "balance.png", (HIT_RATIO, IMBALANCE_REQUESTS, IMBALANCE_INFLIGHT), outcomes, picture),
        ]
    except OSError as error:
        raise UsageError(f"--plot {folder}: {error.strerror or error}") from error


def _matplotlib() -> Any:
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'warmroute[plots]'") from error
    # No window: the pictures go into files.
    matplotlib.use("Agg")
    return importlib.import_module("matplotlib.pyplot")


def _policies(outcomes: Sequence[Outcome]) -> list[str]:
    return list(dict.fromkeys(outcome.policy for outcome in outcomes))


def _levels(outcomes: Sequence[Outcome]) -> list[Level]:
    return sorted(dict.fromkeys(outcome.level for outcome in outcomes), key=lambda level: level.rate or 0.0)


def _value(outcomes: Sequence[Outcome], measure: Measure, policy: str, level: Level) -> float:
    found = median(measure, [outcome.result for outcome in outcomes if outcome.policy == policy and outcome.level == level])
    return float("nan") if found is None else found * measure.scale


def _named(measure: Measure) -> str:
    return f"{measure.title} [{measure.unit}]" if measure.unit else measure.title


def _lines(pyplot: Any, path: Path, measures: Sequence[Measure], outcomes: Sequence[Outcome], picture: Picture, *, logarithmic: bool) -> Path:
    levels = _levels(outcomes)
    by_load = all(level.load is not None for level in levels) and logarithmic
    places = [(level.load if by_load else level.rate) or 0.0 for level in levels]
    figure, axes = pyplot.subplots(1, len(measures), figsize=(1 + 4.5 * len(measures), 4.6), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for index, policy in enumerate(_policies(outcomes)):
            style = {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}
            axis.plot(places, [_value(outcomes, measure, policy, level) for level in levels], label=policy, linewidth=1.6, markersize=5, **style)
        if logarithmic:
            axis.set_yscale("log")
        axis.set_title(_named(measure))
        axis.set_xlabel("load (share of capacity)" if by_load else "rate [requests/s]")
        if levels == [Level()]:
            axis.set_xlabel("as recorded")
            axis.set_xticks([])
        axis.grid(visible=True, which="major", alpha=0.3)
    return _finish(pyplot, figure, path, axes[0][0].get_legend_handles_labels(), picture)


def _bars(pyplot: Any, path: Path, measures: Sequence[Measure], outcomes: Sequence[Outcome], picture: Picture) -> Path:
    levels, policies = _levels(outcomes), _policies(outcomes)
    width = 0.8 / len(policies)
    figure, axes = pyplot.subplots(1, len(measures), figsize=(1 + 4.5 * len(measures), 4.6), squeeze=False)
    for axis, measure in zip(axes[0], measures, strict=True):
        for index, policy in enumerate(policies):
            places = [place + (index - (len(policies) - 1) / 2) * width for place in range(len(levels))]
            values = [_value(outcomes, measure, policy, level) for level in levels]
            axis.bar(places, values, width, label=policy, color=_COLOURS[index % len(_COLOURS)], edgecolor="white", linewidth=0.5)
        axis.set_title(_named(measure))
        axis.set_xticks(range(len(levels)), [_short(level) for level in levels])
        axis.set_xlabel("load (share of capacity)" if levels[0].load is not None else "rate [requests/s]")
        axis.grid(visible=True, axis="y", alpha=0.3)
    return _finish(pyplot, figure, path, axes[0][0].get_legend_handles_labels(), picture)


def _short(level: Level) -> str:
    if level.load is not None:
        return f"{level.load:g}"
    return "as recorded" if level.rate is None else f"{level.rate:.4g}"


def _finish(pyplot: Any, figure: Any, path: Path, legend: tuple[Any, Any], picture: Picture) -> Path:
    caption = "\n".join(textwrap.wrap(picture.command, int(figure.get_figwidth() * _CAPTION_CHARACTERS)))
    figure.suptitle(picture.title)
    figure.tight_layout(rect=(0, 0.16, 1, 0.99))
    figure.legend(*legend, loc="lower center", bbox_to_anchor=(0.5, 0.06), ncols=min(8, len(legend[1])), frameon=False)
    figure.text(0.5, 0.01, caption, ha="center", va="bottom", fontsize=7, family="monospace")
    # Without the date and version that matplotlib writes, the same results are the same bytes.
    figure.savefig(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})
    pyplot.close(figure)
    return path
