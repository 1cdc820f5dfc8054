"""The checkpoint that a restored trial goes on from: the newest whole one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ray.tune.experiment import Trial

from rllib_risk.cli.catalog import is_team_algorithm
from rllib_risk.cli.output import note
from rllib_risk.cli.progress import trial_label
from rllib_risk.cli.row_files import ITERATION, cut_rows, row_at
from rllib_risk.cli.rows import trial_folder
from rllib_risk.core import tune_internals


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
