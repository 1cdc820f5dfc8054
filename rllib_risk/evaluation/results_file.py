"""Writes and reads ``results.json``: the runs of a comparison in one file.

The file is an extract of the trial folders that Tune wrote. They remain the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.evaluation.marl_eval import from_marl_eval, to_marl_eval
from rllib_risk.evaluation.results import (
    EVALUATION,
    TIME_KEY,
    X_DEFAULT,
    Plan,
    ResultsError,
    Trial,
    is_number,
    read_plan,
    read_trial,
    rows_with,
    trial_folders,
)
from rllib_risk.evaluation.run_records import (
    Evaluation,
    RunRecord,
    check_evaluations,
    finite_number,
)

RESULTS_FILE, MARL_EVAL_FILE = "results.json", "marl_eval.json"
FORMAT, FORMAT_VERSION = "rllib_risk results", 1
# Keys of env_config that name a task; the task's name holds only their values.
_TASK_KEYS = ("id", "task", "map_name", "scenario", "factory", "payoff")
# Keys of env_config that do not change the task.
_NOT_OF_TASK = ("state", "action_mask_key")
# Keys of a configuration that do not change what is learned.
_NOT_OF_METHOD = ("seed", "num_gpus", "num_env_runners", "evaluation_num_env_runners")


def write_results(
    folder: Path, metric: str, command: str, code: Mapping[str, Any]
) -> list[Path]:
    """Writes ``results.json`` and ``marl_eval.json`` into a comparison's folder.

    Args:
        folder: Folder of the comparison.
        metric: Result key of the comparison's metric.
        command: Command line of the comparison.
        code: Version and git commit of the package.

    Returns:
        The files written; an empty list if no run was evaluated in an environment.
    """
    plan = read_plan(folder)
    if plan is None or not metric.startswith(EVALUATION):
        return []
    trials = [read_trial(path) for path in trial_folders([folder])]
    trials = [
        trial
        for trial in trials
        if trial.path.name in plan.labels and trial.path.name not in plan.failed
    ]
    name = metric.removeprefix(EVALUATION)
    runs = [_record(trial, plan, metric, name) for trial in trials]
    runs = [run for run in runs if run.evaluations and run.evaluations[-1].env_steps]
    if not runs:
        return []
    whole = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "code": dict(code),
        "command": command,
        "metric": name,
        "runs": [_as_json(run) for run in runs],
    }
    files = [folder / RESULTS_FILE, folder / MARL_EVAL_FILE]
    for file, data in zip(files, (whole, to_marl_eval(runs)), strict=True):
        file.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return files


def _record(trial: Trial, plan: Plan, metric: str, name: str) -> RunRecord:
    label = plan.labels[trial.path.name]
    details = plan.details[label]
    config = details["config"]
    return RunRecord(
        environment=str(details["env"]),
        task=task_name(str(details["env"]), config),
        algorithm=label,
        name=str(trial.params.get("seed")),
        evaluations=[_evaluation(row) for row in rows_with(trial, metric, X_DEFAULT)],
        file=trial.path,
        metric=name,
        config_hash=_hash(details),
    )


def _evaluation(row: dict[str, Any]) -> Evaluation:
    names = [key for key in row if key.startswith(EVALUATION) and is_number(row, key)]
    return Evaluation(
        env_steps=row[X_DEFAULT],
        metrics={key.removeprefix(EVALUATION): [row[key]] for key in names},
        seconds=row[TIME_KEY] if is_number(row, TIME_KEY) else None,
    )


def task_name(env: str, config: Mapping[str, Any]) -> str:
    """Names the task that a configuration is evaluated on.

    Args:
        env: Name of the environment.
        config: The configuration of an algorithm.

    Returns:
        The id or map in ``env_config``, then its other keys, such as ``width=12``.
        Values in ``evaluation_config`` replace those of the training. The name of the
        environment if no key is set.
    """
    evaluation = (config.get("evaluation_config") or {}).get("env_config") or {}
    settings = {**(config.get("env_config") or {}), **evaluation}
    parts = []
    for key in (*_TASK_KEYS, *sorted(set(settings) - {*_TASK_KEYS, *_NOT_OF_TASK})):
        value = settings.get(key)
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        parts.append(text if key in _TASK_KEYS else f"{key}={text}")
    return ", ".join(parts) or env


def _hash(details: Mapping[str, Any]) -> str:
    config = {k: v for k, v in details["config"].items() if k not in _NOT_OF_METHOD}
    kept = [details["run"], details["env"], config]
    text = json.dumps(kept, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json(run: RunRecord) -> dict[str, Any]:
    return {
        "environment": run.environment,
        "task": run.task,
        "algorithm": run.algorithm,
        "seed": run.name,
        "config_hash": run.config_hash,
        "evaluations": [
            {
                "env_steps": evaluation.env_steps,
                "seconds": evaluation.seconds,
                "metrics": {k: values[0] for k, values in evaluation.metrics.items()},
            }
            for evaluation in run.evaluations
        ],
    }


def read_results(file: Path) -> list[RunRecord]:
    """Reads a ``results.json``, or a file in marl-eval's form.

    Args:
        file: The file.

    Returns:
        Its runs.

    Raises:
        ResultsError: If the file cannot be read or has another form. The message names
            the file and the place.
    """
    try:
        data = json.loads(file.read_bytes())
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ResultsError(f"{file}: cannot be read: {error}") from error
    except ValueError as error:
        raise ResultsError(f"{file}: is not JSON: {error}.") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return from_marl_eval(data, file)
    if data.get("version") != FORMAT_VERSION:
        raise ResultsError(
            f"{file}: version: is {data.get('version')!r}, and this version of the"
            f" package reads {FORMAT_VERSION}."
        )
    runs, metric = data.get("runs"), data.get("metric")
    if not isinstance(runs, list) or not runs:
        raise ResultsError(f"{file}: runs: must be a list of at least one run.")
    return [
        _run(run, f"{file}: runs[{index}]", file, metric)
        for index, run in enumerate(runs)
    ]


def _run(run: Any, place: str, file: Path, metric: str | None) -> RunRecord:
    texts = ("environment", "task", "algorithm", "seed", "config_hash")
    for key in texts:
        if not isinstance(run, dict) or not isinstance(run.get(key), str):
            raise ResultsError(f"{place}: {key}: must be a text.")
    evaluations = run.get("evaluations")
    if not isinstance(evaluations, list):
        raise ResultsError(f"{place}: evaluations: must be a list.")
    found = _read_evaluations(evaluations, f"{place}: evaluations")
    environment, task, algorithm, seed, config_hash = (run[key] for key in texts)
    return RunRecord(
        environment, task, algorithm, seed, found, file, metric, config_hash
    )


def _read_evaluations(entries: Sequence[Any], place: str) -> list[Evaluation]:
    found = []
    for index, entry in enumerate(entries):
        here = f"{place}[{index}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("metrics"), dict):
            raise ResultsError(f"{here}: must hold env_steps, seconds and metrics.")
        seconds = entry.get("seconds")
        metrics = {
            name: [finite_number(value, f"{here}: {name}")]
            for name, value in entry["metrics"].items()
        }
        found.append(
            Evaluation(
                finite_number(entry.get("env_steps"), f"{here}: env_steps"),
                metrics,
                None if seconds is None else finite_number(seconds, f"{here}: seconds"),
            )
        )
    return check_evaluations(found, place)
