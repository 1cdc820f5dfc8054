"""The JSON form of marl-eval: results of any program, by environment, task and run.

Gorsane et al., "Towards a Standardised Performance Evaluation Protocol for Cooperative
MARL", NeurIPS 2022. A file holds ``environment -> task -> algorithm -> run -> step``,
with the steps ``step_1 .. step_k`` and ``absolute_metrics``. A step holds its
``step_count`` and a list of numbers for each metric: one number for the evaluation, or
one for each of its episodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rllib_risk.evaluation.results import ResultsError
from rllib_risk.evaluation.run_records import (
    Evaluation,
    RunRecord,
    check_evaluations,
    finite_number,
)

ABSOLUTE = "absolute_metrics"
_COUNT = "step_count"
_SECONDS = "elapsed_time"  # written by Mava
# Metrics that are always exported -> their names in marl-eval's form.
_NAMES = {
    "return_mean": "return",
    "return_cvar_10": "return_cvar_10",
    "success_rate": "success_rate",
}
_LEVELS = ("environment", "task", "algorithm", "run", "step")


def to_marl_eval(runs: Iterable[RunRecord]) -> dict[str, Any]:
    """Returns runs in marl-eval's form.

    Args:
        runs: The runs. Those of an algorithm are numbered from 1 in this order.

    Returns:
        The contents of the file. The return is named ``return``. ``absolute_metrics``
        are those of the last evaluation, since no further episodes are played.
    """
    data: dict[str, Any] = {}
    for run in runs:
        tasks = data.setdefault(run.environment, {})
        numbered = tasks.setdefault(run.task, {}).setdefault(run.algorithm, {})
        steps: dict[str, Any] = {}
        for number, evaluation in enumerate(run.evaluations, start=1):
            metrics = {
                _NAMES.get(name, name): list(values)
                for name, values in evaluation.metrics.items()
                if name in _NAMES or name == run.metric
            }
            steps[f"step_{number}"] = {_COUNT: int(evaluation.env_steps), **metrics}
            steps[ABSOLUTE] = metrics
        steps[ABSOLUTE] = steps.pop(ABSOLUTE)  # the last entry
        numbered[f"run_{len(numbered) + 1}"] = steps
    return data


def from_marl_eval(data: Mapping[str, Any], file: Path) -> list[RunRecord]:
    """Reads runs from marl-eval's form.

    Args:
        data: The contents of the file.
        file: The file, for messages.

    Returns:
        The runs.

    Raises:
        ResultsError: If the file has another form; the message names the place.
    """
    runs = []
    for environment, tasks in _entries(data, file):
        for task, algorithms in _entries(tasks, file, environment):
            for algorithm, named in _entries(algorithms, file, environment, task):
                path = (environment, task, algorithm)
                for name, steps in _entries(named, file, *path):
                    evaluations = _evaluations(steps, file, (*path, name))
                    runs.append(RunRecord(*path, name, evaluations, file))
    return runs


def _entries(value: Any, file: Path, *path: str) -> Iterable[tuple[str, Any]]:
    """The entries of a mapping in the file, with a check that it has some."""
    if not isinstance(value, Mapping) or not value:
        place = f"{file}: {'/'.join(path)}" if path else str(file)
        raise ResultsError(
            f"{place}: there must be an object of each {_LEVELS[len(path)]} by its"
            " name, as in files of rllib compare or of marl-eval."
        )
    return value.items()


def _evaluations(steps: Any, file: Path, path: tuple[str, ...]) -> list[Evaluation]:
    found = []
    for name, step in _entries(steps, file, *path):
        if name == ABSOLUTE:
            continue
        place = f"{file}: {'/'.join((*path, name))}"
        if not isinstance(step, Mapping) or _COUNT not in step:
            raise ResultsError(f"{place}: {_COUNT} is missing.")
        count = finite_number(step[_COUNT], f"{place}/{_COUNT}")
        metrics = {
            metric: _numbers(values, f"{place}/{metric}")
            for metric, values in step.items()
            if metric not in (_COUNT, _SECONDS)
        }
        seconds = None
        if _SECONDS in step:
            seconds = finite_number(step[_SECONDS], f"{place}/{_SECONDS}")
        found.append(Evaluation(count, metrics, seconds))
    return check_evaluations(found, f"{file}: {'/'.join(path)}")


def _numbers(values: Any, place: str) -> list[float]:
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise ResultsError(f"{place}: the list is empty.")
    return [finite_number(value, place) for value in listed]
