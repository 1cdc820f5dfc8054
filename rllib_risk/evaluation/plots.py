"""Learning curves and summary tables from result folders: what ``rllib plot`` does.

Every curve is the interquartile mean (IQM) over seeds with a 95 % bootstrap interval,
and the numbers behind a figure are written beside it as CSV.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rllib_risk.evaluation.results import (
    METRIC_DEFAULT,
    X_DEFAULT,
    Group,
    ResultsError,
    read_groups,
)
from rllib_risk.evaluation.statistics import (
    AggregatedCurve,
    aggregate_curves,
    bootstrap_ci,
    iqm,
)

if TYPE_CHECKING:
    from rich.console import Console

# Okabe and Ito's colours, which people with colour blindness can tell apart.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = ("-", "--", ":", "-.")
_SUFFIXES = (".pdf", ".png", ".svg")
_AXIS_NAMES = {
    "num_env_steps_sampled_lifetime": "environment steps",
    "num_episodes_lifetime": "episodes",
    "num_updates_lifetime": "updates",
    "time_total_s": "wall-clock seconds",
    "training_iteration": "iterations",
    "evaluation/return_mean": "greedy return (mean of an evaluation)",
    "evaluation/return_cvar_10": "greedy return (mean of the lowest 10 %)",
    "evaluation/success_rate": "greedy success rate",
    "env_runners/episode_return_mean": "return while exploring (mean)",
}
_CAPTION = (
    "Line: interquartile mean over seeds. Band: 95 % bootstrap interval. "
    "A run that ended early keeps its last value."
)


def plot_results(
    paths: Sequence[Path],
    out: Path,
    metric: str = METRIC_DEFAULT,
    x: str = X_DEFAULT,
    title: str | None = None,
    y_min: float | None = None,
    threshold: float | None = None,
) -> Path:
    """Draws the learning curves of result folders; writes their numbers beside them.

    Trials of one experiment folder form one curve, or one for each setting where they
    differ in more than the seed. A run that ended early, because it was solved, keeps
    its last value up to the end of the axis.

    Args:
        paths: Trial folders, experiment folders, or folders of experiments.
        out: File to write: ``.png``, ``.pdf`` or ``.svg``. The numbers go to the same
            name with ``.csv``.
        metric: Result key on the vertical axis, such as ``evaluation/return_cvar_10``.
        x: Result key on the horizontal axis.
        title: Title of the figure.
        y_min: Lower end of the vertical axis, for curves that start very low.
        threshold: Value of the metric to mark with a horizontal line.

    Returns:
        The file written.

    Raises:
        ResultsError: If there are no results, no such metric, or ``out`` has another
            suffix.
    """
    return _draw(read_groups(paths, metric, x), out, metric, x, title, y_min, threshold)


@dataclass(frozen=True)
class SummaryRow:
    """One line of the summary table. A number that does not exist is NaN.

    Attributes:
        label: Name of the group.
        num_runs: Number of runs (seeds).
        num_reached: How many of them reached the threshold; None without threshold.
        x_to_threshold: Where they reached it (environment steps by default): mean,
            standard deviation (n - 1), minimum, maximum.
        seconds: Seconds of training until then (without threshold: of the whole run):
            mean and standard deviation.
        final: IQM of the last values of all runs, lower and upper end of its 95 %
            interval.
    """

    label: str
    num_runs: int
    num_reached: int | None
    x_to_threshold: tuple[float, float, float, float]
    seconds: tuple[float, float]
    final: tuple[float, float, float]


def summarise_results(
    paths: Sequence[Path],
    metric: str = METRIC_DEFAULT,
    threshold: float | None = None,
    x: str = X_DEFAULT,
) -> list[SummaryRow]:
    """Says for each group how many runs reached ``metric >= threshold``, and when.

    Args:
        paths: Trial folders, experiment folders, or folders of experiments.
        metric: Result key that is compared with the threshold.
        threshold: The value to reach; None gives the final values alone.
        x: Result key of the axis on which "when" is told.

    Raises:
        ResultsError: If there are no results, or no such metric.
    """
    return [_summarise(group, threshold) for group in read_groups(paths, metric, x)]


def run_plot_command(
    paths: Sequence[Path],
    out: Path,
    console: Console,
    metric: str = METRIC_DEFAULT,
    x: str = X_DEFAULT,
    title: str | None = None,
    y_min: float | None = None,
    threshold: float | None = None,
) -> list[Path]:
    """All that ``rllib plot`` does: figure, CSV, table on screen and as Markdown.

    Returns:
        The files written: figure, ``.csv`` and ``.md`` of the same name.

    Raises:
        ResultsError: If there are no results, no such metric, or ``out`` has another
            suffix than ``.png``, ``.pdf`` or ``.svg``.
    """
    from rich.table import Table

    groups = read_groups(paths, metric, x)
    _draw(groups, out, metric, x, title, y_min, threshold)
    rows = [_summarise(group, threshold) for group in groups]
    header, cells, note = _table(rows, metric, x, threshold)
    table = Table(title=title, caption=note, caption_justify="left")
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in cells:
        table.add_row(*row)
    console.print(table)
    markdown = out.with_suffix(".md")
    markdown.write_text(f"{_markdown(header, cells)}\n{note}\n", encoding="utf-8")
    files = [out, out.with_suffix(".csv"), markdown]
    for file in files:
        console.print(f"Wrote {file}", highlight=False, soft_wrap=True)
    return files


def _draw(
    groups: list[Group],
    out: Path,
    metric: str,
    x: str,
    title: str | None,
    y_min: float | None,
    threshold: float | None,
) -> Path:
    """See :func:`plot_results`."""
    if out.suffix not in _SUFFIXES:
        raise ResultsError(f"{out} must end in one of {', '.join(_SUFFIXES)}")
    curves = [
        (group, aggregate_curves([r.x for r in group.runs], [r.y for r in group.runs]))
        for group in groups
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    _write_csv(curves, out.with_suffix(".csv"), metric, x)

    # The object interface with the Agg canvas: no display, and no global pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7.2, 4.6), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    end = max(curve.x[-1] for _, curve in curves)
    if threshold is not None:
        axes.axhline(threshold, color="0.55", linewidth=1.0, linestyle=(0, (1, 2)))
    for index, (group, curve) in enumerate(curves):
        color = _COLORS[index % len(_COLORS)]
        style = _LINES[index // len(_COLORS) % len(_LINES)]
        # Groups of solved runs end early; their curves go on to the end of the axis.
        xs = np.append(curve.x, end)
        center, low, high = (
            np.append(v, v[-1]) for v in (curve.center, curve.low, curve.high)
        )
        label = f"{group.label} ({group.count_text})"
        axes.plot(xs, center, style, color=color, linewidth=1.8, label=label)
        if curve.num_runs > 1:
            axes.fill_between(xs, low, high, color=color, alpha=0.18, linewidth=0)
    axes.set_xlabel(_AXIS_NAMES.get(x, x))
    axes.set_ylabel(_AXIS_NAMES.get(metric, metric))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0, right=end)
    if y_min is not None:
        axes.set_ylim(bottom=y_min)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="best")
    if title:
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    figure.supxlabel(_CAPTION, fontsize=7.5, color="0.4")
    figure.savefig(out)
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


def _summarise(group: Group, threshold: float | None) -> SummaryRow:
    """See :func:`summarise_results`."""
    if threshold is None:
        hits = [(run, len(run.y) - 1) for run in group.runs]
    else:
        passed = [(run, np.flatnonzero(run.y >= threshold)) for run in group.runs]
        hits = [(run, int(points[0])) for run, points in passed if points.size]
    at = [float(run.x[point]) for run, point in hits]
    seconds = [float(run.seconds[point]) for run, point in hits]
    last = [float(run.y[-1]) for run in group.runs]
    nan = math.nan
    reached = bool(at) and threshold is not None
    return SummaryRow(
        label=group.label,
        num_runs=len(group.runs),
        num_reached=None if threshold is None else len(hits),
        x_to_threshold=(*_mean_std(at), min(at), max(at)) if reached else (nan,) * 4,
        seconds=_mean_std(seconds),
        final=(iqm(last), *bootstrap_ci(last)),
    )


def _mean_std(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); NaN where there are too few values."""
    mean = float(np.mean(values)) if values else math.nan
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _table(
    rows: list[SummaryRow], metric: str, x: str, threshold: float | None
) -> tuple[list[str], list[list[str]], str]:
    """Header and cells of the summary table, and a sentence that explains them."""
    final = "final: IQM [95 % CI]"
    if threshold is None:
        header = ["group", "runs", "seconds: mean ± std", final]
        note = f"Seconds of training, and the last {metric} of each run."
    else:
        axis = f"{_AXIS_NAMES.get(x, x)}: mean ± std"
        header = ["group", "reached", axis, "min – max", "seconds: mean ± std", final]
        note = (
            f"Reached: runs that had {metric} of {threshold:g} or more in an "
            f"evaluation; {_AXIS_NAMES.get(x, x)} and seconds of these runs until "
            f"then. Final: the last {metric} of all runs."
        )
    cells = []
    for row in rows:
        center, low, high = (f"{value:.4g}" for value in row.final)
        line = [row.label]
        if row.num_reached is None:
            line.append(str(row.num_runs))
        else:
            mean, std, lowest, highest = row.x_to_threshold
            line.append(f"{row.num_reached} of {row.num_runs}")
            line.append(_plus_minus(mean, std))
            line.append("–" if math.isnan(mean) else f"{lowest:,.0f} – {highest:,.0f}")
        line += [_plus_minus(*row.seconds), f"{center} [{low}, {high}]"]
        cells.append(line)
    return header, cells, note


def _plus_minus(mean: float, std: float) -> str:
    """``12,300 ± 400``, with a dash for what does not exist."""
    if math.isnan(mean):
        return "–"
    return f"{mean:,.0f}" + ("" if math.isnan(std) else f" ± {std:,.0f}")


def _markdown(header: list[str], cells: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *cells]
    # A bar inside a cell would start a new one.
    rows = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
