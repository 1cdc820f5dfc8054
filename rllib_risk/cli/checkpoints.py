"""Finds, verifies and loads checkpoints for the commands that need one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_risk.cli.best import read_results, read_score, score_of, shown, usual_score
from rllib_risk.cli.catalog import TEAM_METRIC
from rllib_risk.cli.output import note
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm

_RLLIB_FILE = "rllib_checkpoint.json"


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint of a trial.

    Attributes:
        score: Score of the checkpoint; see :func:`rllib_risk.cli.best.score_of`.
            Infinite for a damaged one whose iteration is unknown: it may be the best.
        iteration: Training iteration that wrote the checkpoint.
        folder: Folder of the checkpoint.
        damage: What is wrong with it; None for a checkpoint that can be loaded.
    """

    score: float
    iteration: float
    folder: Path
    damage: str | None


def find_checkpoint(path: Path, verb: str = "Taking") -> Path:
    """Finds a checkpoint: the folder itself, or the best one of a trial or experiment.

    Prints which checkpoint it chose. A damaged checkpoint that is or may be the best is
    refused: another one is another model. The score is that of the evaluation in the
    iteration that wrote the checkpoint.

    Args:
        path: Folder of a checkpoint, a trial, an experiment or a comparison.
        verb: First word of the printed line, such as ``Evaluating``.

    Returns:
        The absolute folder of a checkpoint.

    Raises:
        ConfigError: If there is no such folder, if it holds no checkpoint, or if the
            checkpoint to take is damaged.
    """
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: this folder does not exist. Check the path.")
    if _is_checkpoint(folder):
        return folder
    trials = [t for t in (folder, *sorted(folder.iterdir())) if _checkpoints(t)]
    if not trials:
        raise ConfigError(
            f"{folder} is not a checkpoint, and it contains no checkpoints"
            " (checkpoint_000000 and so on). Give the folder of a checkpoint, a trial"
            " or an experiment."
        )
    if any(is_foreign(c) for trial in trials for c in _checkpoints(trial)):
        return _last_foreign(folder, trials, verb)
    experiment = folder.parent if trials == [folder] else folder
    metric, order = read_score(experiment, usual_score(trials, TEAM_METRIC))
    candidates = [c for t in trials for c in _candidates(t, metric, order)]
    candidates.sort(key=lambda c: (c.score, c.iteration))
    best = candidates[-1]
    if best.damage is not None:
        raise ConfigError(_refusal(best, candidates, metric))
    why = f"{metric} {shown(best.score, order)}"
    if best.score == -math.inf:
        why = f"the last checkpoint; no checkpoint has a value of {metric}"
    note(f"{verb} {best.folder} ({why}).")
    return best.folder


def _is_checkpoint(folder: Path) -> bool:
    from rllib_risk.core.checkpoint import CONFIG, MANIFEST, checkpoint_number

    names = (CONFIG, MANIFEST, _RLLIB_FILE)
    # An incomplete checkpoint counts too: the user asked for this folder.
    return checkpoint_number(folder) >= 0 or any((folder / n).is_file() for n in names)


def _checkpoints(trial: Path) -> list[Path]:
    from rllib_risk.core.checkpoint import numbered_checkpoints

    return numbered_checkpoints(trial) if trial.is_dir() else []


def _candidates(trial: Path, metric: str, order: str) -> Iterator[_Candidate]:
    from rllib_risk.core.checkpoint import CheckpointError, verify_checkpoint

    results = {str(row.get("training_iteration")): row for row in read_results(trial)}
    for folder in _checkpoints(trial):
        damage, iteration, score = None, math.inf, math.inf
        try:
            verify_checkpoint(folder)
        except CheckpointError as error:
            damage = str(error)
        try:
            iteration = _iteration_of(folder)
            score = score_of(results.get(str(iteration), {}), metric, order)
        except CheckpointError as error:
            damage = damage or str(error)
        yield _Candidate(score, iteration, folder, damage)


def _iteration_of(folder: Path) -> int:
    """The iteration that wrote a checkpoint, whose other files may be damaged."""
    from rllib_risk.core.checkpoint import (
        STATE,
        CheckpointError,
        is_unchanged,
        read_state,
    )

    state = folder / STATE
    iteration = read_state(folder).get("iteration") if is_unchanged(state) else None
    if type(iteration) is not int:
        raise CheckpointError(f"{state} does not hold the number of its iteration.")
    return iteration


def _refusal(best: _Candidate, candidates: Sequence[_Candidate], metric: str) -> str:
    """Why no checkpoint is taken if the best one is damaged, and what to do."""
    usable = [c.folder for c in candidates if c.damage is None]
    what = {
        math.inf: f"It may be the best checkpoint by {metric}",
        -math.inf: f"It is the last checkpoint, and none has a value of {metric}",
    }.get(best.score, f"It is the best checkpoint by {metric}")
    advice = "All other checkpoints in this folder are damaged too"
    if usable:
        advice = f"Name the one to take instead, such as {usable[-1]}"
    return f"{best.damage} {what}, so no other one is taken. {advice}."


def _last_foreign(folder: Path, trials: Sequence[Path], verb: str) -> Path:
    """Returns the last checkpoint of a trial of RLlib's own algorithms.

    Their checkpoints do not record which result they belong to, so they have no score.
    """
    if len(trials) > 1:
        raise ConfigError(
            f"{folder} has several trials of RLlib's own algorithms. Their checkpoints"
            " do not record which result they belong to, so none can be chosen. Give"
            " the folder of a trial or a checkpoint."
        )
    last = _checkpoints(trials[0])[-1]
    note(f"{verb} {last} (the last checkpoint of the trial).")
    return last


def is_foreign(folder: Path) -> bool:
    """Returns whether a folder is a checkpoint of RLlib's own algorithms."""
    from rllib_risk.core.checkpoint import CONFIG, MANIFEST

    # Checkpoints of this package contain RLlib's file too.
    ours = any((folder / name).is_file() for name in (CONFIG, MANIFEST))
    return (folder / _RLLIB_FILE).is_file() and not ours


def verified(checkpoint: Path, purpose: str) -> Path:
    """Checks that a folder is an undamaged checkpoint of this package.

    A damaged checkpoint is never replaced by another one. For the folder of a trial or
    an experiment, this is the best checkpoint; see :func:`find_checkpoint`.

    Args:
        checkpoint: The folder.
        purpose: What the checkpoint is for, used in the error message.

    Returns:
        The absolute folder.

    Raises:
        ConfigError: If the folder does not exist, holds no checkpoint, or holds one of
            RLlib's own algorithms.
        CheckpointError: If the checkpoint is incomplete or was changed.
    """
    from rllib_risk.core.checkpoint import verify_checkpoint

    folder = find_checkpoint(checkpoint)
    if is_foreign(folder):
        raise ConfigError(
            f"{folder} is a checkpoint of RLlib's own algorithms, but {purpose} needs"
            " one of this package's algorithms."
        )
    verify_checkpoint(folder)
    return folder


@contextlib.contextmanager
def opened(
    folder: Path,
    *,
    trust_code: bool,
    env: str | None = None,
    env_config: Mapping[str, Any] | None = None,
) -> Iterator[TeamAlgorithm]:
    """Context manager that builds the algorithm of a checkpoint, without Ray.

    All episodes are played in this process. For the few episodes of such commands, one
    batch of environments is as fast as several processes.

    Args:
        folder: A verified checkpoint.
        trust_code: Whether to import the code that the checkpoint names.
        env: Name of the env to play in, for a run that learned without an env; None:
            the env of the training.
        env_config: Keys that replace those of the evaluation's ``env_config``. A key
            with a dot is a path, such as ``kwargs.size``.

    Yields:
        The algorithm.

    Raises:
        ConfigError: If the env has no such key, does not exist, or the training had an
            env and one is given.
    """
    import rllib_risk
    from rllib_risk.core.checkpoint import reading

    with reading(folder):
        changes = {} if env is None else _given_env(folder, env)
        if env_config:
            changes |= _changed_env(folder, env_config, changes)
    algorithm = rllib_risk.load(folder, trust_code=trust_code, **changes)
    try:
        yield algorithm
    finally:
        algorithm.stop()


def _given_env(folder: Path, env: str) -> dict[str, Any]:
    """Returns keys that set the env of a run that learned from a dataset only.

    The env has the settings that the dataset was recorded with, if its card names them.
    """
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.core.checkpoint import read_config
    from rllib_risk.data.card import read_card
    from rllib_risk.data.rows import DatasetError

    values = read_config(folder)["config"]
    if values.get("env") is not None:
        raise ConfigError(
            f"--env: {folder} was trained in '{values['env']}', where it is evaluated."
            " Leave --env out."
        )
    try:
        RLlibCatalog().check_env(env, read_config(folder)["algorithm"])
        data = str(values["dataset"]).replace("{seed}", str(values.get("seed")))
        settings = dict(read_card(Path(data)).env_config)
    except ConfigError as error:
        raise ConfigError(f"--env: {error}") from error
    except DatasetError as error:
        raise ConfigError(f"--env: {error}.") from error
    # Evaluations may play in other settings than those of the dataset.
    return {"env": env, "env_config": settings, "evaluation_interval": 1}


def _changed_env(
    folder: Path, env_config: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the configuration keys that change the evaluation's environment.

    With ``env_variants`` the changes apply to every variant.
    """
    from rllib_risk.config.shift_grid import apply_settings
    from rllib_risk.core.checkpoint import read_config

    values = {**read_config(folder)["config"], **given}
    evaluation = dict(values.get("evaluation_config") or {})
    env = evaluation.get("env", values.get("env"))
    if env is None:
        raise ConfigError(
            "--env-config: this run learned from a dataset and has no environment."
            " Name one with --env."
        )
    changed = _checked_settings(env, env_config)
    own = values.get("env_config") or {}
    result: dict[str, Any] = {"env_config": apply_settings(own, changed)}
    if given:
        result["env_config"] = own
        evaluation["env_config"] = apply_settings(own, changed)
    elif "env_config" in evaluation:
        own = evaluation["env_config"] or {}
        evaluation["env_config"] = apply_settings(own, changed)
    result["evaluation_config"] = evaluation or None
    for part in (values, evaluation):
        if variants := part.get("env_variants"):
            several = [apply_settings(variant, changed) for variant in variants]
            (result if part is values else evaluation)["env_variants"] = several
    return result


def changed_settings(
    env: Any, env_config: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns an ``env_config`` with the changes of ``--env-config``.

    Args:
        env: Name of the environment.
        env_config: The changes. A key with a dot is a path, such as ``kwargs.size``.
        own: The ``env_config`` to change.

    Raises:
        ConfigError: If the environment has no such key, or a value is wrong.
    """
    from rllib_risk.config.shift_grid import apply_settings

    return apply_settings(own, _checked_settings(env, env_config))


def _checked_settings(env: Any, env_config: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys and values of ``--env-config``."""
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.config.checks import check_inner, unknown_key
    from rllib_risk.config.yaml_reader import Document

    fields = RLlibCatalog().env_fields(env)
    changed = dict(env_config)
    if fields is not None:
        for key in changed:
            if "." in key and key.partition(".")[0] not in fields:
                raise ConfigError(
                    f"--env-config: {unknown_key(key, fields, 'env_config')}"
                )
        whole = {key: value for key, value in changed.items() if "." not in key}
        document = Document(whole, "--env-config")
        changed.update(check_inner("env_config", fields, document, whole, ()))
    return changed
