"""Finds the best checkpoint of a run.

The score of a checkpoint comes from the evaluation in the iteration that saved it. A
result may repeat an earlier evaluation, which does not count;
``evaluation/age_iterations`` is the age of an evaluation.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.cli.output import note, say
from rllib_risk.cli.progress import STEPS, UPDATES, flatten_fresh
from rllib_risk.cli.resume import RECORD
from rllib_risk.config.metrics import ESTIMATE_METRIC
from rllib_risk.core import tune_internals
from rllib_risk.evaluation.results import COMPARISON_FILE

# Score of checkpoints without an evaluation: the newest one is the best.
NEWEST = "training_iteration"
_OFF_POLICY = "off_policy/"


def score_of(result: Mapping[str, Any], metric: str, order: str) -> float:
    """Returns the score of a result; higher is better.

    Args:
        result: A flat result without a repeated evaluation.
        metric: Name of the metric in the result.
        order: ``max`` or ``min``.

    Returns:
        The value of the metric, negated for ``min``; -inf if the result lacks it.
    """
    value = result.get(metric)
    if not isinstance(value, int | float) or math.isnan(value):
        return -math.inf
    try:
        return float(value if order == "max" else -value)
    except OverflowError:  # a huge integer in a damaged file
        return -math.inf


def best_checkpoint(
    trials: Sequence[Any], metric: str, order: str
) -> tuple[float, Any, Any] | None:
    """Finds the best checkpoint of some trials.

    Args:
        trials: Tune's trials.
        metric: Name of the metric that ranks checkpoints.
        order: ``max`` or ``min``.

    Returns:
        The score (see :func:`score_of`), the checkpoint and its trial; None if there is
        no checkpoint.
    """
    best: tuple[float, Any, Any] | None = None
    for trial in trials:
        for saved in tune_internals.saved_checkpoints(trial):
            score = score_of(flatten_fresh(saved.metrics), metric, order)
            # If scores are equal, take the latest: it has trained longest.
            if best is None or score >= best[0]:
                best = (score, saved.checkpoint, trial)
    return best


def report_best(
    trials: Sequence[Any],
    metric: str,
    order: str,
    imports: Sequence[str],
    *,
    evaluates: bool = True,
) -> None:
    """Prints the best checkpoint and, if there is an env, the command to evaluate it.

    Args:
        trials: Tune's trials.
        metric: Name of the metric that ranks checkpoints.
        order: ``max`` or ``min``.
        imports: Modules that the command must import.
        evaluates: Whether there is an environment to evaluate the checkpoint in.
    """
    best = best_checkpoint(trials, metric, order)
    if best is None:
        note("No checkpoint was saved.")
        return
    score, checkpoint, trial = best
    unscored = metric != NEWEST and score == -math.inf
    if unscored or metric == NEWEST:
        say(f"Last checkpoint: {checkpoint.path}")
    else:
        say(f"Best checkpoint ({metric} {shown(score, order)}): {checkpoint.path}")
    if unscored:
        say(f"No checkpoint has a value of {metric}, so none is known to be the best.")
    if unscored and metric.startswith(_OFF_POLICY):
        say(
            "No estimate of the return was made: it did not settle, or its interval was"
            " wider than the returns of the log spread. The return is unknown."
        )
    elif metric.startswith(_OFF_POLICY):
        say(
            "This is an estimate from held-out episodes, and the highest of several, so"
            " it is too good on average. Estimate it again from other episodes: rllib"
            f" evaluate {shlex.quote(checkpoint.path)} --dataset DATA"
        )
    if evaluates:
        say(f"Evaluate it with: {evaluate_command(checkpoint, trial, imports)}")
    elif not metric.startswith(_OFF_POLICY):
        say(
            "The return of this policy is unknown, because the run has no environment."
            " The estimates above come from the trained network itself."
        )
    better = better_result(trials, metric, order, score)
    if better:
        note(f"{better} (--checkpoint-freq 1 --keep-checkpoints-num 3).")


def better_result(
    trials: Sequence[Any], metric: str, order: str, score: float
) -> str | None:
    """Describes the best result if it was better than every checkpoint.

    Args:
        trials: Tune's trials.
        metric: Name of the metric that ranks checkpoints.
        order: ``max`` or ``min``.
        score: Score of the best checkpoint.

    Returns:
        A text about the best result and how to keep its checkpoint, without the last
        full stop; None if no result was better.
    """
    found: tuple[float, dict[str, Any], Any] | None = None
    for trial in trials:
        for row in read_results(tune_internals.trial_folder(trial)):
            value = score_of(row, metric, order)
            if value > (score if found is None else found[0]):
                found = (value, row, trial)
    if found is None:
        return None
    value, row, trial = found
    where = f" of trial {trial}" if len(trials) > 1 else ""
    return (
        f"The best {metric} was {shown(value, order)} after {_progress(row)}{where},"
        " but that iteration has no checkpoint. To keep the best checkpoints, write"
        " checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 3}"
    )


def _progress(row: Mapping[str, Any]) -> str:
    """Describes the progress of a run: env steps, or updates for a run on a dataset."""
    if "dataset_passes" in row:
        return f"{int(row.get(UPDATES, 0)):,} updates"
    return f"{int(row.get(STEPS, 0)):,} env steps"


def shown(score: float, order: str) -> str:
    """Formats a score with the sign of its metric; ``-`` if there is none."""
    if score == -math.inf:
        return "-"
    return f"{score if order == 'max' else -score:.2f}"


def evaluate_command(checkpoint: Any, trial: Any, imports: Sequence[str]) -> str:
    """Returns the command that evaluates a checkpoint of a trial."""
    from rllib_risk.core.record import named_code

    command = f"rllib evaluate {shlex.quote(checkpoint.path)}"
    if not (Path(checkpoint.path) / "manifest.json").is_file():
        command += f" --algo {trial.trainable_name}"
    # The user has trained with the code that the checkpoint names, so it is trusted.
    if any(named_code(trial.config)):
        command += " --trust-code"
    return command + "".join(f" --import {module}" for module in imports)


def read_results(trial: Path) -> Iterator[dict[str, Any]]:
    """Reads the results of a trial from ``result.json``.

    Args:
        trial: Folder of the trial.

    Yields:
        Flat results, without repeated evaluations. Damaged lines, such as the last line
        of a killed run, are skipped.
    """
    file = trial / "result.json"
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield flatten_fresh(row)


def usual_score(trials: Sequence[Path], evaluated: str) -> str:
    """Returns the metric that scores checkpoints if the experiment names none.

    Args:
        trials: Folders of the trials.
        evaluated: Metric of evaluations.

    Returns:
        The off-policy estimate if the trials have estimates but no evaluations,
        otherwise ``evaluated``.
    """
    keys = {key for trial in trials for row in read_results(trial) for key in row}
    estimated = ESTIMATE_METRIC in keys and evaluated not in keys
    return ESTIMATE_METRIC if estimated else evaluated


def read_score(experiment: Path, usual: str) -> tuple[str, str]:
    """Reads which metric ranks the checkpoints of an experiment or a comparison.

    Args:
        experiment: Folder of the experiment or comparison.
        usual: The metric to use if the folder names none.

    Returns:
        The metric, and ``max`` or ``min``.
    """
    checkpoint: Any = _json(experiment / RECORD).get("checkpoint_config")
    if checkpoint is None:
        algorithms = _json(experiment / COMPARISON_FILE).get("details")
        # All algorithms of a comparison share one checkpoint configuration.
        first = next(iter(_object(algorithms).values()), None)
        checkpoint = _object(first).get("checkpoint")
    checkpoint = _object(checkpoint)
    metric = checkpoint.get("checkpoint_score_attribute")
    order = checkpoint.get("checkpoint_score_order")
    if not isinstance(metric, str):
        metric = usual
    return metric, "min" if order == "min" else "max"


def _object(value: Any) -> dict[str, Any]:
    """Returns a JSON object as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    """Reads a JSON object; prints a line if the file exists but is damaged."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        note(f"{file} is damaged and is ignored: {error}")
        return {}
    return value
