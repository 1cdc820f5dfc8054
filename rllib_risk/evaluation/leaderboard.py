"""Merges result files of several machines and programs, and draws each task."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rllib_risk.evaluation.performance_profile import AGGREGATE, PROFILE, write_profile
from rllib_risk.evaluation.plots import name_files, write_groups
from rllib_risk.evaluation.results import (
    EVALUATION,
    X_DEFAULT,
    Group,
    ResultsError,
    Run,
)
from rllib_risk.evaluation.results_file import read_results
from rllib_risk.evaluation.run_records import RETURNS, Evaluation, RunRecord
from rllib_risk.evaluation.tables import summarise
from rllib_risk.ops.statistics import cvar_of_returns

if TYPE_CHECKING:
    from rich.console import Console

# Smallest number of episodes from which a CVaR at 10 % is computed.
_FEWEST = 10
_TABLE = "leaderboard"
_HEADER = ("environment", "task", "algorithm", "seeds", "iqm", "ci95_low", "ci95_high")

# Runs of each algorithm, by environment and task.
Tasks = dict[tuple[str, str], dict[str, list[RunRecord]]]


def merge(files: Sequence[Path]) -> Tasks:
    """Reads files and collects the runs of each algorithm on each task.

    A run counts once if several files contain it with the same evaluations.

    Args:
        files: Files of ``rllib compare``, or in marl-eval's form.

    Returns:
        The runs, in the order of the files.

    Raises:
        ResultsError: If a file cannot be read, if an algorithm has different
            configurations in two files, or if a seed has different evaluations.
    """
    tasks: Tasks = {}
    for file in files:
        for run in read_results(file):
            algorithms = tasks.setdefault((run.environment, run.task), {})
            others = algorithms.setdefault(run.algorithm, [])
            if not _is_known(run, others):
                others.append(run)
    return tasks


def _is_known(run: RunRecord, others: Sequence[RunRecord]) -> bool:
    """Whether the other runs already contain this run.

    Raises:
        ResultsError: If it contradicts one of them.
    """
    for other in others:
        same_name = other.name == run.name
        if same_name and other.evaluations == run.evaluations:
            return True
        if run.config_hash is None or other.config_hash is None:
            continue  # names such as run_1 do not identify a run
        if run.config_hash != other.config_hash:
            raise ResultsError(
                f"{run.place}: the configuration differs from that in {other.file}."
                " Give one of the two another label, or leave out a file."
            )
        if same_name:
            raise ResultsError(
                f"{run.place}: the evaluations of this seed differ from those in"
                f" {other.file}. Leave out one of the files."
            )
    return False


def write_leaderboard(
    files: Sequence[Path], folder: Path, console: Console, metric: str | None = None
) -> list[Path]:
    """Draws a figure and a table of every task, and a profile over all tasks.

    Args:
        files: See :func:`merge`.
        folder: Folder for the figures and tables.
        console: Console to print the tables on.
        metric: Name of the metric; None: the return, under one of the names in
            :data:`~rllib_risk.evaluation.run_records.RETURNS`.

    Returns:
        The files written: a ``.png``, ``.csv``, ``.md`` and ``.tex`` file for each
        task, the files of :func:`write_profile`, and ``leaderboard.csv``.

    Raises:
        ResultsError: See :func:`merge`; or if a run has no such metric.
    """
    tasks = merge(files)
    drawn = {
        place: [_group(label, runs, metric) for label, runs in algorithms.items()]
        for place, algorithms in tasks.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    lines: list[list[str]] = []
    key = EVALUATION + (metric or RETURNS[0])
    stems = {PROFILE, AGGREGATE, _TABLE}
    for (environment, task), groups in drawn.items():
        title = environment if task == environment else f"{environment}: {task}"
        out = folder / f"{_stem(environment, task, stems)}.png"
        written += write_groups(groups, out, console, key, X_DEFAULT, title)
        for row in map(lambda group: summarise(group, None), groups):
            numbers = [*row.final, row.cvar]
            shown = ["" if math.isnan(n) else f"{n:.10g}" for n in numbers]
            lines.append([environment, task, row.label, str(row.num_runs), *shown])
    over_tasks = write_profile(drawn, folder, console)
    table = folder / f"{_TABLE}.csv"
    with table.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([(*_HEADER, "cvar_10"), *lines])
    name_files([*over_tasks, table], console)
    return [*written, *over_tasks, table]


def _stem(environment: str, task: str, taken: set[str]) -> str:
    """A new name for the files of a task."""
    text = environment if task == environment else f"{environment}-{task}"
    stem = first = re.sub(r"[^\w.=-]+", "-", text).strip("-.") or "task"
    number = 1
    while stem in taken:
        number += 1
        stem = f"{first}-{number}"
    taken.add(stem)
    return stem


def _group(label: str, runs: Sequence[RunRecord], metric: str | None) -> Group:
    return Group(label, [_run(run, metric) for run in runs], len(runs))


def _run(record: RunRecord, metric: str | None) -> Run:
    """One metric of a run as a curve."""
    name = record.metric_name(metric)
    points = [
        (
            evaluation.env_steps,
            float(np.mean(evaluation.metrics[name])),
            math.nan if evaluation.seconds is None else evaluation.seconds,
            _cvar(evaluation, name),
        )
        for evaluation in record.evaluations
    ]
    return Run(record.file, record.name, *np.array(points, np.float64).T)


def _cvar(evaluation: Evaluation, name: str) -> float:
    """CVaR at 10 % of the returns of an evaluation; NaN if unknown."""
    values = evaluation.metrics[name]
    if name not in RETURNS:
        return math.nan
    if len(values) >= _FEWEST:
        return cvar_of_returns(values, 0.1)
    known = evaluation.metrics.get("return_cvar_10")
    return float(known[0]) if known and len(known) == 1 else math.nan
