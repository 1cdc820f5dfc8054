"""Which checkpoint is the best one of a run.

A checkpoint has the score of the evaluation that was made in its own iteration. Results
may repeat an earlier evaluation; ``evaluation/age_iterations`` says how old it is.
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

# What checkpoints are scored by where nothing says how good they are.
NEWEST = "training_iteration"
_OFF_POLICY = "off_policy/"


def score_of(result: Mapping[str, Any], metric: str, order: str) -> float:
    """How good a result is.

    Args:
        result: A flat result without a carried evaluation.
        metric: Its name of what counts.
        order: ``max`` or ``min``.

    Returns:
        The number, negated for ``min``; -inf if the result has none of its own.
    """
    value = result.get(metric)
    if not isinstance(value, int | float) or math.isnan(value):
        return -math.inf
    try:
        return float(value if order == "max" else -value)
    except OverflowError:  # a whole number of a damaged file
        return -math.inf


def best_checkpoint(
    trials: Sequence[Any], metric: str, order: str
) -> tuple[float, Any, Any] | None:
    """Finds the best checkpoint of some trials.

    Args:
        trials: Tune's trials.
        metric: The result that says which is best.
        order: ``max`` or ``min``.

    Returns:
        Its score (see :func:`score_of`), itself and its trial; None if there is no
        checkpoint.
    """
    best: tuple[float, Any, Any] | None = None
    for trial in trials:
        for saved in tune_internals.saved_checkpoints(trial):
            score = score_of(flatten_fresh(saved.metrics), metric, order)
            # Of equal checkpoints the latest: it has learned longest.
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
        metric: The result that says which is best.
        order: ``max`` or ``min``.
        imports: Modules that the command must import.
        evaluates: Whether there is an environment to evaluate it in.
    """
    best = best_checkpoint(trials, metric, order)
    if best is None:
        note("No checkpoint was saved.")
        return
    score, checkpoint, trial = best
    if metric == NEWEST:
        say(f"Last checkpoint: {checkpoint.path}")
    else:
        say(f"Best checkpoint ({metric} {shown(score, order)}): {checkpoint.path}")
    if metric.startswith(_OFF_POLICY):
        say(
            "This is an estimate from held-out episodes, and the highest of several, so"
            " it is too good on average. Estimate it again from other episodes: rllib"
            f" evaluate {shlex.quote(checkpoint.path)} --dataset DATA"
        )
    if evaluates:
        say(f"Evaluate it with: {evaluate_command(checkpoint, trial, imports)}")
    elif not metric.startswith(_OFF_POLICY):
        say(
            "What it returns is not known: it was played nowhere. The estimates above"
            " come from the network that they judge."
        )
    better = better_result(trials, metric, order, score)
    if better:
        note(f"{better} (--checkpoint-freq 1 --keep-checkpoints-num 3).")


def better_result(
    trials: Sequence[Any], metric: str, order: str, score: float
) -> str | None:
    """Says so if a result was better than every checkpoint.

    Args:
        trials: Tune's trials.
        metric: The result that says which is best.
        order: ``max`` or ``min``.
        score: Of the best checkpoint.

    Returns:
        One sentence on the best result and one, without its end, on how to keep its
        checkpoint; None if no result was better.
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
        " and there is no checkpoint of that iteration. To keep the best ones, write"
        " checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 3}"
    )


def _progress(row: Mapping[str, Any]) -> str:
    """How far a run was: env steps, or updates where nothing is sampled."""
    if "dataset_passes" in row:
        return f"{int(row.get(UPDATES, 0)):,} updates"
    return f"{int(row.get(STEPS, 0)):,} env steps"


def shown(score: float, order: str) -> str:
    """A score for people, with its own sign; ``-`` if there is none."""
    if score == -math.inf:
        return "-"
    return f"{score if order == 'max' else -score:.2f}"


def evaluate_command(checkpoint: Any, trial: Any, imports: Sequence[str]) -> str:
    """Returns the command that evaluates a checkpoint of a trial."""
    from rllib_risk.core.record import named_code

    command = f"rllib evaluate {shlex.quote(checkpoint.path)}"
    if not (Path(checkpoint.path) / "manifest.json").is_file():
        command += f" --algo {trial.trainable_name}"
    # The checkpoint names code. The user has trained with it, so it is trusted.
    if any(named_code(trial.config)):
        command += " --trust-code"
    return command + "".join(f" --import {module}" for module in imports)


def read_results(trial: Path) -> Iterator[dict[str, Any]]:
    """Results of a trial as Tune wrote them.

    Args:
        trial: Folder of the trial.

    Yields:
        Flat results, without carried evaluations. A line that is no result is left
        out, as the last one of a run that was killed.
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
    """By what the checkpoints of trials are scored where nothing says it.

    Args:
        trials: Their folders.
        evaluated: The result of evaluations.

    Returns:
        The off-policy estimate where there are such estimates and no evaluation, else
        ``evaluated``.
    """
    keys = {key for trial in trials for row in read_results(trial) for key in row}
    estimated = ESTIMATE_METRIC in keys and evaluated not in keys
    return ESTIMATE_METRIC if estimated else evaluated


def read_score(experiment: Path, usual: str) -> tuple[str, str]:
    """By what the checkpoints of an experiment or a comparison are scored.

    Args:
        experiment: Its folder.
        usual: The result that is taken where the folder does not say it.

    Returns:
        The metric, and ``max`` or ``min``.
    """
    checkpoint: Any = _json(experiment / RECORD).get("checkpoint_config")
    if checkpoint is None:
        algorithms = _json(experiment / COMPARISON_FILE).get("details")
        # All algorithms of a comparison have the same.
        first = next(iter(_object(algorithms).values()), None)
        checkpoint = _object(first).get("checkpoint")
    checkpoint = _object(checkpoint)
    metric = checkpoint.get("checkpoint_score_attribute")
    order = checkpoint.get("checkpoint_score_order")
    if not isinstance(metric, str):
        metric = usual
    return metric, "min" if order == "min" else "max"


def _object(value: Any) -> dict[str, Any]:
    """A JSON object; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _json(file: Path) -> dict[str, Any]:
    """Reads a JSON object; says so if the file is there and damaged."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        note(f"{file} is damaged and is left out: {error}")
        return {}
    return value
