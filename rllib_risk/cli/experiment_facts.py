"""Facts of an experiment: algorithm, environment, dataset, checkpoint metric."""

from __future__ import annotations

from typing import Any

from rllib_risk.cli.best import NEWEST
from rllib_risk.cli.catalog import default_metric
from rllib_risk.config.experiments import ExperimentSpec


def checkpoint_metric(spec: ExperimentSpec) -> tuple[str, str]:
    """Returns the metric that ranks checkpoints, and ``max`` or ``min``."""
    metric = spec.checkpoint.get("checkpoint_score_attribute")
    order = spec.checkpoint.get("checkpoint_score_order", "max")
    usual = default_metric(spec.algorithm) if has_env(spec) else NEWEST
    return metric or usual, order


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
