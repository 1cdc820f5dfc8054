"""What restored trials do: which go on, and from which checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from rllib_risk.cli.catalog import is_team_algorithm
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import flatten, trial_label
from rllib_risk.cli.rows import ITERATION, cut_rows, row_at, trial_folder
from rllib_risk.config.experiments import ExperimentSpec
from rllib_risk.core import tune_internals


class GoingOn:
    """Prepares the trials that Tune restores, before any of them starts.

    After SIGKILL Tune remembers what it last wrote down, which may be older than the
    checkpoints on disk. A trial goes on from the newest whole one.

    Attributes:
        unfinished: How many restored trials go on.
    """

    def __init__(self, spec: ExperimentSpec | None = None) -> None:
        """Keeps what trials take over.

        Args:
            spec: The experiment as it is asked for now; None: nothing was changed.
        """
        self.unfinished = 0
        self._spec = spec

    def prepare_trials(self, scheduler: TrialScheduler) -> TrialScheduler:
        """Makes a scheduler prepare each trial that is added.

        Args:
            scheduler: Any of Tune's; its instance is changed.

        Returns:
            The same scheduler.
        """
        on_add = scheduler.on_trial_add

        def on_trial_add(controller: Any, trial: Trial) -> None:
            self._prepare(trial)
            on_add(controller, trial)

        changed: Any = scheduler
        changed.on_trial_add = on_trial_add
        return scheduler

    def _prepare(self, trial: Trial) -> None:
        if self._spec is not None:
            self._take_over(trial, self._spec)
        if not trial.is_finished():
            self.unfinished += 1
            go_on_from_newest(trial)

    def _take_over(self, trial: Trial, spec: ExperimentSpec) -> None:
        result = flatten(trial.last_result) if trial.has_reported_at_least_once else {}
        reached = _reached(result, trial.stopping_criterion)
        trial.stopping_criterion = dict(spec.stop)
        trial.max_failures = spec.max_failures
        tune_internals.save_trial_at(
            trial,
            spec.checkpoint.get("checkpoint_frequency", 0),
            spec.checkpoint.get("checkpoint_at_end", True),
        )
        if trial.status != Trial.TERMINATED or not reached:
            return
        if _reached(result, spec.stop):
            return
        if not trial.has_checkpoint():
            note(f"{trial_label(trial)}  ended without a checkpoint and cannot go on")
            return
        trial.set_status(Trial.PENDING)


def _reached(result: Mapping[str, Any], stop: Mapping[str, float]) -> bool:
    return any(result.get(name, float("-inf")) >= value for name, value in stop.items())


def go_on_from_newest(trial: Trial) -> None:
    """Makes a trial go on from its newest whole checkpoint.

    The rows after that checkpoint are dropped, since the trial writes them again.

    Args:
        trial: A restored trial that does not run.
    """
    folder = trial_folder(trial)
    if folder is None or not folder.is_dir():
        return
    from rllib_risk.core.checkpoint import checkpoint_number, numbered_checkpoints

    numbered = numbered_checkpoints(folder)
    if numbered:
        # One that was cut short keeps its number.
        last = checkpoint_number(numbered[-1])
        tune_internals.number_checkpoints_after(trial, last)
    # Those of RLlib's own algorithms do not tell whether they are whole.
    checked = is_team_algorithm(trial.get_trainable_cls())
    if numbered and checked and not _exploits(trial, folder):
        remembered, newest = trial.checkpoint, _newest_whole(numbered)
        if newest is None:
            note(f"{trial_label(trial)}  has no whole checkpoint and begins again")
            tune_internals.forget_checkpoints(trial)
        elif remembered is None or Path(remembered.path) != newest:
            _adopt(trial, folder, newest)
    result = trial.latest_checkpoint_result
    if result is None or not result.metrics:
        cut_rows(folder, 0)  # It begins again, perhaps from a checkpoint of `restore`.
    elif ITERATION in result.metrics:
        cut_rows(folder, int(result.metrics[ITERATION]))


def _exploits(trial: Trial, folder: Path) -> bool:
    """Whether PBT has made the trial go on from another trial's checkpoint."""
    result = trial.latest_checkpoint_result
    if result is None or not result.metrics:
        return False
    return Path(result.checkpoint.path).parent != folder


def _adopt(trial: Trial, folder: Path, checkpoint: Path) -> None:
    from rllib_risk.core.checkpoint import read_state

    iteration = int(read_state(checkpoint)["iteration"])
    row = row_at(folder, iteration)
    if row is None:
        # Tune's state is the only other source of totals such as the time.
        row = {**trial.last_result, ITERATION: iteration}
    row.pop("config", None)
    note(f"{trial_label(trial)}  goes on from {checkpoint.name}, the newest whole one")
    tune_internals.continue_from(trial, checkpoint, row)


def _newest_whole(checkpoints: Sequence[Path]) -> Path | None:
    from rllib_risk.core.checkpoint import CheckpointError, verify_checkpoint

    for checkpoint in reversed(checkpoints):
        try:
            return verify_checkpoint(checkpoint)
        except CheckpointError as error:
            note(f"{checkpoint.name} is not used: {error}")
    return None
