"""Reads the folders that Ray Tune writes and groups their trials into curves.

A trial folder contains ``result.json`` (one JSON object per iteration and line) and
``params.json`` (the configuration). Trials of one experiment folder that differ only in
the seed form a group. The folder of a comparison also contains ``comparison.json`` with
the planned trials; its labels are the groups.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.config.schema import suggest
from rllib_risk.ops.statistics import FloatArray

logger = logging.getLogger(__name__)

X_DEFAULT = "num_env_steps_sampled_lifetime"
X_OFFLINE = "num_updates_lifetime"
METRIC_DEFAULT = "evaluation/return_mean"
TIME_KEY = "time_total_s"
CVAR_KEY = "evaluation/return_cvar_10"
COMPARISON_FILE = "comparison.json"
EVALUATION = "evaluation/"
# Number of results since the evaluation that a result contains; 0: it is new.
AGE_KEY = "evaluation/age_iterations"
_LARGEST = 1e100


class ResultsError(ValueError):
    """Raised for results that cannot be shown. The message names folder or metric."""


@dataclass(frozen=True)
class Trial:
    """Configuration and results of one run, as Tune wrote them.

    Attributes:
        path: The trial folder.
        params: Flat configuration, with ``env_config/width`` for nested keys.
        rows: Flat results in order, with ``evaluation/return_mean`` for nested keys.
    """

    path: Path
    params: dict[str, Any]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One metric of one trial.

    Attributes:
        path: The trial folder.
        seed: The seed in its configuration; None if there is none.
        x: Increasing x values of the points, ``[points]``.
        y: The metric at each point, ``[points]``.
        seconds: Seconds since the start of training at each point, ``[points]``; NaN if
            unknown.
        cvar: Mean of the lowest tenth of the returns at each point, ``[points]``; NaN
            if unknown.
    """

    path: Path
    seed: Any
    x: FloatArray
    y: FloatArray
    seconds: FloatArray
    cvar: FloatArray


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the seed.

    Attributes:
        label: Name of the experiment and the parameters that distinguish the group. In
            a comparison it is the label of the algorithm.
        runs: The runs, ordered by folder name. Empty only if all trials of a
            comparison's label failed.
        planned: Number of planned runs of a comparison; None outside comparisons.
    """

    label: str
    runs: list[Run]
    planned: int | None = None

    @property
    def count_text(self) -> str:
        """``5 seeds``, or ``5 runs`` if seeds are unknown or repeated."""
        seeds = {json.dumps(run.seed) for run in self.runs if run.seed is not None}
        noun = "seed" if len(seeds) == len(self.runs) else "run"
        return f"{len(self.runs)} {noun}" + ("" if len(self.runs) == 1 else "s")


@dataclass(frozen=True)
class Plan:
    """The planned trials of a comparison, from its ``comparison.json``.

    Attributes:
        labels: Label of each trial folder, in the order of the comparison.
        failed: Names of the folders of failed trials.
        details: All settings of the trials, for ``--resume``.
    """

    labels: dict[str, str]
    failed: tuple[str, ...] = ()
    details: Any = None


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes the ``comparison.json`` of a comparison's folder."""
    text = json.dumps(asdict(plan), indent=2, default=str)
    # Replace the file atomically, because --resume depends on it.
    part = folder / f"{COMPARISON_FILE}.part"
    part.write_text(f"{text}\n", encoding="utf-8")
    part.replace(folder / COMPARISON_FILE)


def read_plan(folder: Path) -> Plan | None:
    """Reads the plan of a comparison.

    Args:
        folder: A folder of trials.

    Returns:
        The plan; None if the folder does not belong to a comparison.

    Raises:
        ResultsError: If ``comparison.json`` is damaged.
    """
    file = folder / COMPARISON_FILE
    if not file.is_file():
        return None
    data = _read_object(file)
    try:
        labels, failed = data["labels"], data["failed"]
        texts = [*labels.keys(), *labels.values(), *failed]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("labels and failed must hold texts")
        return Plan(dict(labels), tuple(failed), data["details"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{file} is damaged: {error!r}. Restore the file, or name the trial"
            " folders."
        ) from error


def read_groups(
    paths: Sequence[Path], metric: str = METRIC_DEFAULT, x: str = X_DEFAULT
) -> list[Group]:
    """Reads every trial below ``paths`` and groups them by experiment and parameters.

    Trials without results or without this metric are left out with a warning. The
    failed trials of a comparison are also left out, because they are incomplete.

    Args:
        paths: Trial folders, experiment folders, or folders of experiments.
        metric: Result key of the metric, with slashes for nested keys.
        x: Result key of the horizontal axis.

    Raises:
        ResultsError: If a path holds no result, or no trial has the metric or ``x``.
    """
    experiments: dict[Path, list[Trial]] = defaultdict(list)
    for folder in trial_folders(paths):
        trial = read_trial(folder)
        if trial.rows:
            experiments[folder.parent].append(trial)
        else:
            logger.warning("%s contains no result yet and is left out.", folder)
    all_trials = [trial for trials in experiments.values() for trial in trials]
    if not all_trials:
        raise ResultsError(
            f"Every result.json below {_names(paths)} is still empty: wait for the"
            " first result."
        )
    _check_keys(all_trials, [metric, x])
    names = _experiment_names(list(experiments))
    groups = []
    for experiment, trials in sorted(experiments.items()):
        plan = read_plan(experiment)
        if plan is not None:
            prefix = f"{names[experiment]}/" if len(experiments) > 1 else ""
            groups += _planned_groups(plan, trials, prefix, metric, x)
            continue
        by_label: dict[str, list[Run]] = defaultdict(list)
        for suffix, trial in zip(_differences(trials), trials, strict=True):
            run = _run(trial, metric, x)
            if run is None:
                logger.warning("%s has no %s and is left out.", trial.path, metric)
            else:
                by_label[names[experiment] + suffix].append(run)
        groups += [Group(label, runs) for label, runs in sorted(by_label.items())]
    return groups


def _planned_groups(
    plan: Plan, trials: list[Trial], prefix: str, metric: str, x: str
) -> list[Group]:
    """Builds the groups of a comparison, one per label, in the order of the plan."""
    counts = Counter(plan.labels.values())
    by_label: dict[str, list[Run]] = {label: [] for label in counts}
    for trial in trials:
        name = trial.path.name
        run = _run(trial, metric, x)
        if name not in plan.labels:
            raise ResultsError(
                f"{trial.path} is not a trial of the comparison. Move it out of the"
                " comparison's folder."
            )
        if name in plan.failed:
            logger.warning("%s failed and is left out.", trial.path)
        elif run is None:
            logger.warning("%s has no %s and is left out.", trial.path, metric)
        else:
            by_label[plan.labels[name]].append(run)
    return [
        Group(prefix + label, runs, counts[label]) for label, runs in by_label.items()
    ]


def trial_folders(paths: Sequence[Path]) -> list[Path]:
    """Returns all folders with a result.json at or below the paths, sorted."""
    folders: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise ResultsError(f"{path} does not exist.")
        found = {file.resolve().parent for file in path.rglob("result.json")}
        if not found:
            raise ResultsError(
                f"There is no result.json at or below {path}. Give the folder that"
                " `rllib train` printed at its end, or one of its trial folders."
            )
        folders |= found
    return sorted(folders)


def read_trial(folder: Path) -> Trial:
    """Reads one trial folder."""
    params_file, results_file = folder / "params.json", folder / "result.json"
    params: dict[str, Any] = {}
    if params_file.exists():
        params = dict(_flatten(_read_object(params_file)))
    try:
        lines = results_file.read_bytes().splitlines()
    except OSError as error:
        raise ResultsError(f"{results_file} cannot be read: {error}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no JSON object")
            row.pop("config", None)  # It is the same in every row and in params.json.
            rows.append(without_carried(dict(_flatten(row))))
        except (ValueError, RecursionError) as error:
            # A run that was killed or is still running may leave an incomplete line.
            if number == len(lines):
                logger.warning(
                    "%s: the last line is incomplete and is left out.", results_file
                )
                continue
            raise ResultsError(
                f"{results_file}, line {number}: not JSON: {error}. Remove the line to"
                " read the others."
            ) from error
    return Trial(folder, params, rows)


def _read_object(file: Path) -> dict[str, Any]:
    """Reads a file with one JSON object."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(
            f"{file} is damaged: it is not JSON: {error}. Restore the file, or leave"
            " out its folder."
        ) from error
    if not isinstance(value, dict):
        raise ResultsError(
            f"{file} is damaged: it holds no JSON object. Restore the file, or leave"
            " out its folder."
        )
    return value


def without_carried(row: dict[str, Any]) -> dict[str, Any]:
    """Removes an evaluation that is repeated from an earlier result.

    Args:
        row: A flat result of an algorithm or of ``result.json``.

    Returns:
        The result; unchanged if its evaluation is new or it has none.
    """
    if not row.get(AGE_KEY):
        return row
    return {k: v for k, v in row.items() if not k.startswith(EVALUATION)}


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields pairs of slash-separated key and leaf."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _check_keys(trials: list[Trial], keys: list[str]) -> None:
    """Raises an error if no trial has a number under one of these keys."""
    rows = [row for trial in trials for row in trial.rows]
    available = {key for row in rows for key in row if is_number(row, key)}
    for key in keys:
        if key in available:
            continue
        # List the metrics of evaluations first, because they are plotted most.
        where = sorted(available, key=lambda k: (not k.startswith("evaluation/"), k))
        rest = f" and {len(where) - 30} more" if len(where) > 30 else ""
        raise ResultsError(
            f"No result has the metric {key!r}.{suggest(key, where)} "
            f"Available: {', '.join(where[:30])}{rest}."
        )


def is_number(row: dict[str, Any], key: str) -> bool:
    """Whether the row has a finite number under this key."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    # Means and axis limits of larger numbers would overflow.
    return abs(value) < _LARGEST


def rows_with(trial: Trial, metric: str, x: str) -> list[dict[str, Any]]:
    """Returns the rows of a trial that have a metric, with increasing ``x``."""
    kept: list[dict[str, Any]] = []
    for row in trial.rows:
        if is_number(row, metric) and is_number(row, x):
            # A run restored from a checkpoint repeats the rows after it. The later rows
            # belong to the final policy.
            while kept and kept[-1][x] >= row[x]:
                kept.pop()
            kept.append(row)
    return kept


def _run(trial: Trial, metric: str, x: str) -> Run | None:
    """Extracts the metric of one trial; None if it has no finite value."""
    keys = (x, metric, TIME_KEY, CVAR_KEY)
    points = [
        [row[key] if is_number(row, key) else math.nan for key in keys]
        for row in rows_with(trial, metric, x)
    ]
    if not points:
        return None
    columns = np.array(points, dtype=np.float64).T  # [4, points]
    return Run(trial.path, trial.params.get("seed"), *columns)


def _differences(trials: list[Trial]) -> list[str]:
    """Returns for each trial the parameters that distinguish it, except the seed."""
    keys = sorted({key for trial in trials for key in trial.params})
    varied = [
        key
        for key in keys
        if key.rpartition("/")[2] != "seed"
        and len({json.dumps(t.params.get(key)) for t in trials}) > 1
    ]
    return [
        "".join(f", {key}={trial.params.get(key)}" for key in varied)
        for trial in trials
    ]


def _experiment_names(experiments: list[Path]) -> dict[Path, str]:
    """Returns folder names, with enough parent folders to make them unique."""
    names = {}
    for path in experiments:
        others = [other for other in experiments if other != path]
        depth = 1
        while any(other.parts[-depth:] == path.parts[-depth:] for other in others):
            depth += 1
        names[path] = "/".join(path.parts[-depth:])
    return names


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
