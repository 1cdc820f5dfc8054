"""Summary tables of several runs: on the terminal, as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.evaluation.fitted_table import print_fitted_table
from rllib_risk.evaluation.results import Group
from rllib_risk.evaluation.table_files import latex_table, markdown_table
from rllib_risk.ops.statistics import bootstrap_ci, iqm

if TYPE_CHECKING:
    from rich.console import Console

AXIS_NAMES = {
    "num_env_steps_sampled_lifetime": "environment steps",
    "num_episodes_lifetime": "episodes",
    "num_updates_lifetime": "updates",
    "time_total_s": "wall-clock seconds",
    "training_iteration": "iterations",
    "evaluation/return_mean": "greedy return (mean of an evaluation)",
    "evaluation/return_cvar_10": "greedy return (mean of the lowest 10 %)",
    "evaluation/success_rate": "greedy success rate",
    "env_runners/episode_return_mean": "return while exploring (mean)",
    "holdout/td_error_abs": "TD error on held-out episodes (mean)",
    "holdout/loss": "loss on held-out episodes",
    "holdout/data_agreement": "share of held-out actions that are greedy",
    "data/data_agreement": "share of learned actions that are greedy",
    "off_policy/return_mean": "estimated return (fitted Q evaluation)",
    "data/td_error_abs": "TD error on learned episodes (mean)",
    "data/loss": "loss on learned episodes",
}
_NAN = math.nan
# Groups of results whose highest value is not the best.
_WITHOUT_BEST = ("data", "holdout", "learner", "off_policy")


@dataclass(frozen=True)
class SummaryRow:
    """One line of the summary table. Missing numbers are NaN.

    Attributes:
        label: Name of the group.
        num_runs: Number of runs (seeds) in the group.
        planned: Number of planned runs of a comparison; None outside comparisons.
        final: IQM of the last values of all runs, lower and upper end of its 95 %
            interval.
        cvar: Mean over runs of the CVaR 10 % of the returns of the last evaluation.
        best: The best value of all evaluations of all runs.
        num_reached: Number of runs that reached the threshold; None without threshold.
        x_to_threshold: x at which runs reached the threshold (env steps by default):
            mean, standard deviation (n - 1), minimum, maximum.
        seconds: Seconds of training until the threshold (without threshold: of the
            whole run): mean and standard deviation.
    """

    label: str
    num_runs: int
    planned: int | None
    final: tuple[float, float, float]
    cvar: float
    best: float
    num_reached: int | None
    x_to_threshold: tuple[float, float, float, float]
    seconds: tuple[float, float]


def summarise(group: Group, threshold: float | None) -> SummaryRow:
    """Computes the summary line of a group of runs.

    Args:
        group: The runs, with their values of the metric.
        threshold: A run reaches the threshold if ``metric >= threshold``. None: no
            threshold.
    """
    if threshold is None:
        hits = [(run, len(run.y) - 1) for run in group.runs]
    else:
        passed = [(run, np.flatnonzero(run.y >= threshold)) for run in group.runs]
        hits = [(run, int(points[0])) for run, points in passed if points.size]
    at = [float(run.x[point]) for run, point in hits]
    seconds = [float(run.seconds[point]) for run, point in hits]
    last = [float(run.y[-1]) for run in group.runs]
    reached = bool(at) and threshold is not None
    return SummaryRow(
        label=group.label,
        num_runs=len(group.runs),
        planned=group.planned,
        final=(iqm(last), *bootstrap_ci(last)) if last else (_NAN,) * 3,
        cvar=_mean_std([float(run.cvar[-1]) for run in group.runs])[0],
        best=max((float(run.y.max()) for run in group.runs), default=_NAN),
        num_reached=None if threshold is None else len(hits),
        x_to_threshold=(*_mean_std(at), min(at), max(at)) if reached else (_NAN,) * 4,
        seconds=_mean_std(seconds),
    )


def _mean_std(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1); NaN if there are too few values."""
    mean = float(np.mean(values)) if values else _NAN
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else _NAN


def print_table(
    rows: list[SummaryRow],
    markdown: Path,
    console: Console,
    metric: str,
    x: str,
    title: str | None,
    threshold: float | None,
) -> list[Path]:
    """Prints the summary table and writes it as Markdown and as LaTeX.

    Args:
        rows: Lines of the table.
        markdown: The Markdown file to write; the LaTeX file has the suffix ``.tex``.
        console: Console to print on.
        metric: Result key of the metric.
        x: Result key of the axis on which runs reach the threshold.
        title: Title on the terminal.
        threshold: Threshold of the metric, or None.

    Returns:
        The two files.
    """
    header, cells, note = table_cells(rows, metric, x, threshold)
    return write_table(header, cells, note, markdown, console, title)


def write_table(
    header: list[str],
    cells: list[list[str]],
    note: str,
    markdown: Path,
    console: Console,
    title: str | None = None,
) -> list[Path]:
    """Prints a table with its explanation and writes it as Markdown and as LaTeX.

    Args:
        header: Names of the columns.
        cells: Cells of each line. The first column holds texts.
        note: Explanation of the table.
        markdown: The Markdown file to write; the LaTeX file has the suffix ``.tex``.
        console: Console to print on.
        title: Title on the terminal.

    Returns:
        The two files.
    """
    print_fitted_table(console, header, cells, title=title)
    console.print(note, highlight=False, soft_wrap=True)
    latex = markdown.with_suffix(".tex")
    markdown.write_text(f"{markdown_table(header, cells)}\n{note}\n", encoding="utf-8")
    latex.write_text(latex_table(header, cells, note=note), encoding="utf-8")
    return [markdown, latex]


def table_cells(
    rows: list[SummaryRow], metric: str, x: str, threshold: float | None
) -> tuple[list[str], list[list[str]], str]:
    """Builds the texts of the table.

    Args:
        rows: Lines of the table.
        metric: Result key of the metric.
        x: Result key of the axis on which runs reach the threshold.
        threshold: Threshold of the metric, or None.

    Returns:
        Header, cells, and a text that explains them.
    """
    axis = AXIS_NAMES.get(x, x)
    compared = all(row.planned is not None for row in rows)
    header = ["algorithm", "seeds"] if compared else ["group", "runs"]
    header.append("final: IQM [95 % CI]")
    note = f"Final: the last {metric} of each run."
    # RLlib's own algorithms report no CVaR.
    with_cvar = any(not math.isnan(row.cvar) for row in rows)
    if with_cvar:
        header.append("CVaR 10 %")
        note += " CVaR 10 %: of the last evaluation's returns, mean over runs."
    # The highest value of an error or a loss is not the best. The highest of several
    # estimates is too good on average.
    with_best = metric.partition("/")[0] not in _WITHOUT_BEST
    if with_best:
        header.append("best")
        note += " Best: of all evaluations of all runs."
    if threshold is None:
        note += " Seconds: of training, mean ± std."
    else:
        header += ["reached", axis.replace("environment", "env"), "min – max"]
        note += (
            f" Reached: runs with {threshold:g} or more in an evaluation; {axis} and"
            " seconds of these runs until then: mean ± std."
        )
    header.append("seconds")
    cells = []
    for row in rows:
        of = "" if row.planned in (None, row.num_runs) else f" of {row.planned}"
        line = [row.label, f"{row.num_runs}{of}"]
        center, low, high = (f"{value:.4g}" for value in row.final)
        line.append(f"{center} [{low}, {high}]" if row.num_runs else "–")
        line += [_number(row.cvar)] * with_cvar + [_number(row.best)] * with_best
        if row.num_reached is not None:
            mean, std, lowest, highest = row.x_to_threshold
            line.append(f"{row.num_reached} of {row.num_runs}" if row.num_runs else "–")
            line.append(_plus_minus(mean, std))
            line.append("–" if math.isnan(mean) else f"{lowest:,.0f} – {highest:,.0f}")
        cells.append([*line, _plus_minus(*row.seconds)])
    return header, cells, note


def _number(value: float) -> str:
    """Formats a number with four digits; a dash stands for NaN."""
    return "–" if math.isnan(value) else f"{value:.4g}"


def _plus_minus(mean: float, std: float) -> str:
    """Formats ``12,300 ± 400``; a dash stands for NaN."""
    if math.isnan(mean):
        return "–"
    return f"{mean:,.0f}" + ("" if math.isnan(std) else f" ± {std:,.0f}")


_PARTS = {
    "final": ("final_iqm", "final_ci95_low", "final_ci95_high"),
    "x_to_threshold": ("x_mean", "x_std", "x_min", "x_max"),
    "seconds": ("seconds_mean", "seconds_std"),
}


def write_csv(rows: list[SummaryRow], file: Path) -> None:
    """Writes the exact numbers of a table, with empty fields for missing numbers."""
    names = [part for f in fields(SummaryRow) for part in _PARTS.get(f.name, (f.name,))]
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(names)
        for row in rows:
            values: list[Any] = []
            for value in asdict(row).values():
                values += value if isinstance(value, tuple) else [value]
            writer.writerow(["" if v is None or v != v else v for v in values])
