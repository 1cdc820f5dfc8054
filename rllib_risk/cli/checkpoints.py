"""Opens checkpoints for commands that play with them."""

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
    """A whole checkpoint of a trial.

    Attributes:
        score: See :func:`rllib_risk.cli.best.score_of`.
        iteration: Of the training, when it was written.
        folder: The checkpoint.
    """

    score: float
    iteration: int
    folder: Path


def find_checkpoint(path: Path, verb: str = "Taking") -> Path:
    """The folder of a checkpoint, or the best checkpoint of a trial or an experiment.

    Says which one it took. Only whole checkpoints that are on disk count. The score is
    that of the evaluation in the iteration that wrote the checkpoint.

    Args:
        path: Folder of a checkpoint, a trial, an experiment or a comparison.
        verb: What is done with the checkpoint, for the line that says which it is.

    Returns:
        The absolute folder of a checkpoint.

    Raises:
        ConfigError: If there is no such folder, or it holds no checkpoint.
    """
    folder = path.expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder.")
    if _is_checkpoint(folder):
        return folder
    trials = [t for t in (folder, *sorted(folder.iterdir())) if _checkpoints(t)]
    if not trials:
        raise ConfigError(
            f"{folder} is no checkpoint, and no folder of a trial or an experiment with"
            " checkpoints (checkpoint_000000 and so on)."
        )
    if any(is_foreign(c) for trial in trials for c in _checkpoints(trial)):
        return _last_foreign(folder, trials, verb)
    experiment = folder.parent if trials == [folder] else folder
    metric, order = read_score(experiment, usual_score(trials, TEAM_METRIC))
    candidates = [c for t in trials for c in _candidates(t, metric, order)]
    if not candidates:
        raise ConfigError(f"{folder}: every checkpoint in it was cut short or changed.")
    best = max(candidates, key=lambda c: (c.score, c.iteration))
    why = f"{metric} {shown(best.score, order)}"
    if best.score == -math.inf:
        why = f"the last one; no result of a checkpoint holds {metric}"
    note(f"{verb} {best.folder} ({why}).")
    return best.folder


def _is_checkpoint(folder: Path) -> bool:
    from rllib_risk.core.checkpoint import CONFIG, MANIFEST, checkpoint_number

    names = (CONFIG, MANIFEST, _RLLIB_FILE)
    # One that was cut short is still what was asked for.
    return checkpoint_number(folder) >= 0 or any((folder / n).is_file() for n in names)


def _checkpoints(trial: Path) -> list[Path]:
    from rllib_risk.core.checkpoint import numbered_checkpoints

    return numbered_checkpoints(trial) if trial.is_dir() else []


def _candidates(trial: Path, metric: str, order: str) -> Iterator[_Candidate]:
    from rllib_risk.core.checkpoint import (
        CheckpointError,
        read_state,
        verify_checkpoint,
    )

    results = {str(row.get("training_iteration")): row for row in read_results(trial)}
    for folder in _checkpoints(trial):
        try:
            iteration = int(read_state(verify_checkpoint(folder))["iteration"])
        except (CheckpointError, LookupError, TypeError, ValueError) as error:
            note(f"{folder} is left out: {error}")
            continue
        score = score_of(results.get(str(iteration), {}), metric, order)
        yield _Candidate(score, iteration, folder)


def _last_foreign(folder: Path, trials: Sequence[Path], verb: str) -> Path:
    """The last checkpoint of RLlib's own, which do not say what result they are of."""
    if len(trials) > 1:
        raise ConfigError(
            f"{folder} has several trials of RLlib's own algorithms, whose checkpoints"
            " do not say which result they belong to. Name a trial or a checkpoint."
        )
    last = _checkpoints(trials[0])[-1]
    note(f"{verb} {last} (the last one of the trial).")
    return last


def is_foreign(folder: Path) -> bool:
    """Whether this is a checkpoint of RLlib's own algorithms."""
    from rllib_risk.core.checkpoint import CONFIG, MANIFEST

    # A checkpoint of this package has such a file as well, for RLlib to read.
    ours = any((folder / name).is_file() for name in (CONFIG, MANIFEST))
    return (folder / _RLLIB_FILE).is_file() and not ours


def verified(checkpoint: Path, purpose: str) -> Path:
    """Checks that a folder is a whole checkpoint of this package.

    Another checkpoint than the one asked for is never taken instead. Of a trial or an
    experiment it is the best one; see :func:`find_checkpoint`.

    Args:
        checkpoint: The folder.
        purpose: What it is wanted for, for the message.

    Returns:
        The absolute folder.

    Raises:
        ConfigError: If there is no such folder or no checkpoint in it, or it is
            RLlib's.
        CheckpointError: If the checkpoint was cut short or changed.
    """
    from rllib_risk.core.checkpoint import verify_checkpoint

    folder = find_checkpoint(checkpoint)
    if is_foreign(folder):
        raise ConfigError(
            f"{folder} is a checkpoint of RLlib's own algorithms: {purpose} is for"
            " those of this package."
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
    """Builds the algorithm of a checkpoint for as long as it is needed; Ray must be up.

    All episodes are then played in this process: one batch of environments is as fast
    as several processes for the few that such commands need.

    Args:
        folder: A verified checkpoint.
        trust_code: Whether to import the code that it names.
        env: Name of the env to play in, of a run that learned without one; None: that
            of the training.
        env_config: Keys that replace those of the evaluation's ``env_config``; with a
            dot one inside a key, such as ``kwargs.size``.

    Yields:
        The algorithm.

    Raises:
        ConfigError: If the env has no such key, does not exist, or the training had an
            env and one is given.
    """
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.core.checkpoint import reading

    with reading(folder):
        changes = {} if env is None else _given_env(folder, env)
        if env_config:
            changes |= _changed_env(folder, env_config, changes)
    algorithm = TeamAlgorithm.from_checkpoint(
        folder,
        trust_code=trust_code,
        num_env_runners=0,
        evaluation_num_env_runners=0,
        **changes,
    )
    try:
        yield algorithm
    finally:
        algorithm.stop()


def _given_env(folder: Path, env: str) -> dict[str, Any]:
    """Keys that give a run that learned from a dataset alone an env to play in.

    The env has the settings that the dataset was recorded with, if its card names them.
    """
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.core.checkpoint import read_config
    from rllib_risk.data.card import read_card
    from rllib_risk.data.rows import DatasetError

    values = read_config(folder)["config"]
    if values.get("env") is not None:
        raise ConfigError(
            f"--env: {folder} was trained in '{values['env']}', where it is evaluated;"
            " leave --env out."
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
    """The keys of a configuration that make the evaluation's environment another one.

    With ``env_variants`` the keys hold for every variant: who asks for a value wants to
    see that one.
    """
    from rllib_risk.cli.catalog import RLlibCatalog
    from rllib_risk.config.checks import check_inner, unknown_key
    from rllib_risk.config.shift_grid import apply_settings
    from rllib_risk.config.yaml_reader import Document
    from rllib_risk.core.checkpoint import read_config

    values = {**read_config(folder)["config"], **given}
    evaluation = dict(values.get("evaluation_config") or {})
    env = evaluation.get("env", values.get("env"))
    if env is None:
        raise ConfigError(
            "--env-config: this run learned from a dataset and has no environment. Name"
            " one with --env."
        )
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
