"""Facts of an experiment: algorithm, environment, dataset, checkpoint metric."""

from __future__ import annotations

from typing import Any

from rllib_risk.cli.best import NEWEST
from rllib_risk.cli.catalog import default_metric
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.config.metrics import ESTIMATE_METRIC


def checkpoint_metric(spec: ExperimentSpec) -> tuple[str, str]:
    """Returns the metric that ranks checkpoints, and ``max`` or ``min``."""
    metric = spec.checkpoint.get("checkpoint_score_attribute")
    order = spec.checkpoint.get("checkpoint_score_order", "max")
    return metric or usual_metric(spec), order


def usual_metric(spec: ExperimentSpec) -> str:
    """Returns the metric that ranks runs if the experiment names no other.

    Args:
        spec: The experiment.

    Returns:
        The metric of evaluations. Without an environment: the off-policy estimate, or
        :data:`NEWEST` if the run makes no estimates.
    """
    if has_env(spec):
        return default_metric(spec.algorithm)
    of_object = getattr(spec.config_object, "off_policy_interval", 0)
    estimates = spec.config.get("off_policy_interval", of_object)
    return ESTIMATE_METRIC if estimates else NEWEST


def has_env(spec: ExperimentSpec) -> bool:
    """Returns whether an experiment has an environment; some have only a dataset."""
    return _env(spec) is not None


def _env(spec: ExperimentSpec) -> Any:
    return spec.env or (spec.config_object.env if spec.config_object else None)


def what(spec: ExperimentSpec) -> str:
    """Returns algorithm, environment and dataset of an experiment as a phrase."""
    name = getattr(spec.algorithm, "__name__", spec.algorithm)
    of_object = getattr(spec.config_object, "dataset", None)
    dataset = spec.config.get("dataset", of_object)
    where = [f"on {_env(spec)}"] if has_env(spec) else []
    if dataset is not None:
        where.append(f"from the dataset {dataset}")
    return " ".join([str(name), *where])
