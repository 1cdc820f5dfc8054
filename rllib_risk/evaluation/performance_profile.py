"""Scores of algorithms over several tasks: performance profile and aggregate IQM.

Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical
Precipice".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.evaluation.figure_style import curve_colors, open_axes, plain
from rllib_risk.evaluation.results import Group
from rllib_risk.evaluation.tables import write_table
from rllib_risk.ops.run_comparison import (
    aggregate_iqm,
    performance_profile,
    stratified_ci,
)
from rllib_risk.ops.statistics import FloatArray

if TYPE_CHECKING:
    from rich.console import Console

# The files of `write_profile`, without their suffixes.
PROFILE, AGGREGATE = "profile", "aggregate"
_THRESHOLDS = np.linspace(0.0, 1.0, 101)
_COLUMNS = ("algorithm", "score", "share", "ci95_low", "ci95_high")
_CAPTION = (
    "Line: share of runs above the score, mean over tasks. Band: 95 % bootstrap"
    " interval over the runs of each task."
)
# Final scores of each algorithm on each task, [runs].
Scores = dict[str, list[FloatArray]]


def normalised_scores(tasks: Sequence[Sequence[Group]]) -> tuple[Scores, list[str]]:
    """Returns final scores that are comparable between tasks.

    On each task, 0 is the lowest evaluation of all runs, and 1 the highest. If all are
    equal, every score is 1.

    Args:
        tasks: Groups of runs on each task, one group per algorithm.

    Returns:
        The scores of the algorithms that have runs on every task; and the names of the
        other algorithms.
    """
    found: Scores = {}
    for groups in tasks:
        values = np.concatenate([run.y for group in groups for run in group.runs])
        low, high = float(values.min()), float(values.max())
        for group in groups:
            final = np.array([run.y[-1] for run in group.runs], np.float64)
            ones = np.ones_like(final)
            scores = (final - low) / (high - low) if high > low else ones
            found.setdefault(group.label, []).append(scores)
    whole = {name: own for name, own in found.items() if len(own) == len(tasks)}
    return whole, [name for name in found if name not in whole]


def write_profile(
    tasks: Mapping[Any, Sequence[Group]], folder: Path, console: Console
) -> list[Path]:
    """Writes profile and aggregate scores, if there are several tasks and algorithms.

    Args:
        tasks: Groups of runs on each task, one group per algorithm.
        folder: An existing folder.
        console: Console to print the table on.

    Returns:
        ``profile.png``, ``profile.csv``, ``aggregate.md`` and ``aggregate.tex``; no
        file if there are fewer than two tasks, or fewer than two algorithms that have
        runs on all of them.
    """
    scores, incomplete = normalised_scores(list(tasks.values()))
    if len(tasks) < 2 or len(scores) < 2:
        return []
    lines = []
    for label, own in scores.items():
        low, high = stratified_ci(own, aggregate_iqm)
        runs = sum(task.size for task in own)
        interval = f"{aggregate_iqm(own):.3f} [{low:.3f}, {high:.3f}]"
        lines.append([label, str(len(own)), str(runs), interval])
    note = (
        "Final evaluations of all runs of all tasks together. On each task, 0 is the"
        " lowest evaluation of any run, and 1 the highest."
    )
    if incomplete:
        note += f" Without runs on every task: {', '.join(incomplete)}."
    header = ["algorithm", "tasks", "runs", "normalised score: IQM [95 % CI]"]
    written = write_table(
        header, lines, note, folder / f"{AGGREGATE}.md", console, title="All tasks"
    )
    profiles = {label: _with_interval(own) for label, own in scores.items()}
    files = [folder / f"{PROFILE}.png", folder / f"{PROFILE}.csv"]
    _draw(profiles, files[0])
    _write_csv(profiles, files[1])
    return [*files, *written]


def _with_interval(tasks: Sequence[FloatArray]) -> FloatArray:
    """Profile, lower and upper end of its interval, ``[3, P]``."""
    profile = partial(performance_profile, thresholds=_THRESHOLDS)
    return np.stack([profile(tasks), *stratified_ci(tasks, profile)])


def _draw(profiles: Mapping[str, FloatArray], out: Path) -> None:
    # The object interface with the Agg canvas needs no display and no pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for (label, (share, low, high)), color in zip(
        profiles.items(), curve_colors(list(profiles)), strict=True
    ):
        panel.step(
            _THRESHOLDS, share, where="post", color=color, label=plain(label), lw=1.8
        )
        panel.fill_between(
            _THRESHOLDS, low, high, step="post", color=color, alpha=0.15, linewidth=0
        )
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("normalised score")
    panel.set_ylabel("share of runs above it")
    open_axes(panel)
    panel.legend(frameon=False, fontsize=8.5, loc="best")
    figure.text(0.5, -0.01, _CAPTION, fontsize=7, color="0.4", ha="center", va="top")
    figure.savefig(out, bbox_inches="tight")


def _write_csv(profiles: Mapping[str, FloatArray], out: Path) -> None:
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for label, values in profiles.items():
            for score, *numbers in zip(_THRESHOLDS, *values, strict=True):
                writer.writerow([label, f"{score:g}", *(f"{n:.10g}" for n in numbers)])
