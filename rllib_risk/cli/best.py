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
from rllib_risk.cli.progress import STEPS, flatten
from rllib_risk.core import ray_internals

_AGE = "evaluation/age_iterations"
# Beside the trials, if checkpoints are scored by another result than the usual one.
SCORE_FILE = "checkpoint_score.json"


def score_of(result: Mapping[str, Any], metric: str, order: str) -> float:
    """How good a result is.

    Args:
        result: A flat result.
        metric: Its name of what counts.
        order: ``max`` or ``min``.

    Returns:
        The number, negated for ``min``; -inf if the result has none of its own.
    """
    value = result.get(metric)
    stale = metric.startswith("evaluation/") and (result.get(_AGE) or 0) > 0
    if stale or not isinstance(value, int | float) or math.isnan(value):
        return -math.inf
    return float(value if order == "max" else -value)


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
        for saved in ray_internals.saved_checkpoints(trial):
            score = score_of(flatten(saved.metrics), metric, order)
            # Of equal checkpoints the latest: it has learned longest.
            if best is None or score >= best[0]:
                best = (score, saved.checkpoint, trial)
    return best


def report_best(
    trials: Sequence[Any], metric: str, order: str, imports: Sequence[str]
) -> None:
    """Prints the best checkpoint and the command that evaluates it.

    Args:
        trials: Tune's trials.
        metric: The result that says which is best.
        order: ``max`` or ``min``.
        imports: Modules that the command must import.
    """
    best = best_checkpoint(trials, metric, order)
    if best is None:
        note("No checkpoint was saved.")
        return
    score, checkpoint, trial = best
    say(f"Best checkpoint ({metric} {shown(score, order)}): {checkpoint.path}")
    say(f"Evaluate it with: {evaluate_command(checkpoint, trial, imports)}")
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
        for row in read_results(ray_internals.trial_folder(trial)):
            value = score_of(row, metric, order)
            if value > (score if found is None else found[0]):
                found = (value, row, trial)
    if found is None:
        return None
    value, row, trial = found
    where = f" of trial {trial}" if len(trials) > 1 else ""
    return (
        f"The best {metric} was {shown(value, order)} after {int(row.get(STEPS, 0)):,}"
        f" env steps{where}, and there is no checkpoint of that iteration. To keep the"
        " best ones, write checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 3}"
    )


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
    # Code that the checkpoint names; whoever trained it trusts it.
    if any(named_code(trial.config)):
        command += " --trust-code"
    return command + "".join(f" --import {module}" for module in imports)


def read_results(trial: Path) -> Iterator[dict[str, Any]]:
    """Results of a trial as Tune wrote them.

    Args:
        trial: Folder of the trial.

    Yields:
        Flat results. A line that is no result is left out, as the last one of a run
        that was killed.
    """
    file = trial / "result.json"
    if not file.is_file():
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                yield flatten(row)


def write_score(experiment: str, metric: str, order: str, usual: str) -> None:
    """Notes by what the checkpoints of an experiment are scored, for `rllib evaluate`.

    Args:
        experiment: Folder of the experiment, or its address elsewhere, where nothing
            is written.
        metric: The result that says which is best.
        order: ``max`` or ``min``.
        usual: The result that is taken without such a note.
    """
    if "://" in experiment:
        return
    file = Path(experiment) / SCORE_FILE
    if (metric, order) == (usual, "max"):
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"metric": metric, "order": order}) + "\n")


def read_score(experiment: Path, usual: str) -> tuple[str, str]:
    """What :func:`write_score` noted.

    Args:
        experiment: Folder of the experiment.
        usual: The result that is taken without a note.

    Returns:
        The metric, and ``max`` or ``min``.
    """
    try:
        data = json.loads((experiment / SCORE_FILE).read_text())
        return str(data["metric"]), "min" if data["order"] == "min" else "max"
    except (OSError, ValueError, KeyError, TypeError):
        return usual, "max"
