"""Default axis and metric of figures and tables of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rllib_risk.config.metrics import ESTIMATE_METRIC
from rllib_risk.evaluation.results import (
    METRIC_DEFAULT,
    X_DEFAULT,
    X_OFFLINE,
    read_trial,
    trial_folders,
)

# Default metrics of runs that learned from a dataset without an environment.
METRICS_OFFLINE = (
    ESTIMATE_METRIC,
    "holdout/td_error_abs",
    "holdout/loss",
    "data/td_error_abs",
    "data/loss",
)


def natural_x(paths: Sequence[Path]) -> str:
    """Returns the default key of the horizontal axis.

    Args:
        paths: See :func:`read_groups`.

    Returns:
        Env steps, or updates if every trial learned from a dataset.

    Raises:
        ResultsError: If a path holds no result.
    """
    trials = [read_trial(folder) for folder in trial_folders(paths)]
    last = [trial.rows[-1] for trial in trials if trial.rows]
    offline = [row.get(X_DEFAULT) == 0 and X_OFFLINE in row for row in last]
    return X_OFFLINE if offline and all(offline) else X_DEFAULT


def natural_metric(paths: Sequence[Path]) -> str:
    """Returns the default metric.

    Args:
        paths: See :func:`read_groups`.

    Returns:
        The return of evaluations. If no trial was evaluated, the first of
        :data:`METRICS_OFFLINE` that all trials have.

    Raises:
        ResultsError: If a path holds no result.
    """
    trials = [read_trial(folder) for folder in trial_folders(paths)]
    keys = [
        {key for row in trial.rows for key in row} for trial in trials if trial.rows
    ]
    if any(METRIC_DEFAULT in known for known in keys):
        return METRIC_DEFAULT
    shared = set.intersection(*keys) if keys else set()
    return next((m for m in METRICS_OFFLINE if m in shared), METRIC_DEFAULT)
