"""Learning curves from result folders, and the files of ``plot`` and ``compare``.

Every curve is the interquartile mean (IQM) over seeds with a 95 % bootstrap interval.
The numbers of a figure are written to a CSV file of the same name.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_risk.evaluation.curve_figure import draw_curves
from rllib_risk.evaluation.natural import natural_metric, natural_x
from rllib_risk.evaluation.results import (
    METRIC_DEFAULT,
    Group,
    ResultsError,
    read_groups,
)
from rllib_risk.evaluation.tables import (
    print_table,
    summarise,
    write_csv,
)
from rllib_risk.ops.statistics import AggregatedCurve, aggregate_curves

if TYPE_CHECKING:
    from rich.console import Console

_SUFFIXES = (".pdf", ".png", ".svg")


def run_plot_command(
    paths: Sequence[Path],
    out: Path,
    console: Console,
    metric: str | None = None,
    x: str | None = None,
    title: str | None = None,
    y_min: float | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """Runs ``rllib plot``: writes figure, CSV and Markdown table, and prints the table.

    Trials of one experiment folder form one curve. If they differ in more than the
    seed, each setting forms a curve. A run that stopped early because it was solved
    keeps its last value up to the end of the axis.

    Args:
        paths: Trial folders, experiment folders, or folders of experiments.
        out: File to write: ``.png``, ``.pdf`` or ``.svg``. The numbers go to the same
            name with ``.csv``.
        console: Console to print the table on.
        metric: Result key on the vertical axis, such as ``evaluation/return_cvar_10``;
            None: :func:`natural_metric`.
        x: Result key on the horizontal axis; None: :func:`natural_x`.
        title: Title of the figure.
        y_min: Lower end of the vertical axis, for curves that start very low.
        threshold: Value of the metric to mark with a horizontal line. The table shows
            how many runs reached it.

    Returns:
        The files written: figure, ``.csv``, ``.md`` and ``.tex`` of the same name.

    Raises:
        ResultsError: If there are no results, no such metric, or ``out`` has another
            suffix.
    """
    x, metric = x or natural_x(paths), metric or natural_metric(paths)
    groups = read_groups(paths, metric, x)
    return write_groups(groups, out, console, metric, x, title, y_min, threshold)


def write_groups(
    groups: list[Group],
    out: Path,
    console: Console,
    metric: str,
    x: str,
    title: str | None = None,
    y_min: float | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """Draws the figure of some groups, and prints and writes their table.

    Args:
        groups: The groups of runs.
        out: File to write; see :func:`run_plot_command`.
        console: Console to print the table on.
        metric: Result key of the metric.
        x: Result key of the horizontal axis.
        title: Title of the figure.
        y_min: Lower end of the vertical axis.
        threshold: Threshold of the metric.

    Returns:
        The files written: figure, ``.csv``, ``.md`` and ``.tex`` of the same name.

    Raises:
        ResultsError: If no group has a run, or ``out`` has another suffix.
    """
    _draw(groups, out, metric, x, title, y_min, threshold)
    files = [out, out.with_suffix(".csv")]
    rows = [summarise(group, threshold) for group in groups]
    markdown = out.with_suffix(".md")
    files += print_table(rows, markdown, console, metric, x, title, threshold)
    name_files(files, console)
    return files


def write_comparison(
    folder: Path,
    console: Console,
    metric: str = METRIC_DEFAULT,
    title: str | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """Writes the table and the figure of a comparison into its folder.

    Args:
        folder: Folder of the comparison's trials, with ``comparison.json``.
        console: Console to print the table on.
        metric: Result key of the metric to compare.
        title: Title of figure and table.
        threshold: Threshold of the metric: the table shows the env steps needed to
            reach it.

    Returns:
        The files written: ``table.md``, ``table.tex``, ``table.csv``, ``curves.png``
        and ``curves.csv``.

    Raises:
        ResultsError: If there are no results, or no such metric.
    """
    x = natural_x([folder])
    groups = read_groups([folder], metric, x)
    table, curves = folder / "table.csv", folder / "curves.png"
    _draw(groups, curves, metric, x, title, None, threshold)
    rows = [summarise(group, threshold) for group in groups]
    markdown = folder / "table.md"
    texts = print_table(rows, markdown, console, metric, x, title, threshold)
    write_csv(rows, table)
    files = [*texts, table, curves, folder / "curves.csv"]
    name_files(files, console)
    return files


def name_files(files: Sequence[Path], console: Console) -> None:
    """Prints one line for each file that was written."""
    for file in files:
        console.print(f"Wrote {file}", highlight=False, soft_wrap=True)


def _draw(
    groups: list[Group],
    out: Path,
    metric: str,
    x: str,
    title: str | None,
    y_min: float | None,
    threshold: float | None,
) -> Path:
    """Draws the figure; see :func:`run_plot_command`."""
    if out.suffix not in _SUFFIXES:
        raise ResultsError(f"{out} must end in one of {', '.join(_SUFFIXES)}.")
    curves = [
        (group, aggregate_curves([r.x for r in group.runs], [r.y for r in group.runs]))
        for group in groups
        if group.runs
    ]
    if not curves:
        raise ResultsError(
            f"No trial has the metric {metric}: choose another metric, or train longer."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(curves, out.with_suffix(".csv"), metric, x)

    draw_curves(
        curves,
        out,
        metric=metric,
        x=x,
        title=title,
        y_min=y_min,
        threshold=threshold,
    )
    return out


def _write_csv(
    curves: list[tuple[Group, AggregatedCurve]], out: Path, metric: str, x: str
) -> None:
    """Writes the numbers of a figure, one line per point of each curve."""
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["group", "runs", x, f"{metric} iqm", "ci95_low", "ci95_high"])
        for group, curve in curves:
            for point in zip(curve.x, curve.center, curve.low, curve.high, strict=True):
                numbers = [f"{value:.10g}" for value in point]
                writer.writerow([group.label, curve.num_runs, *numbers])
