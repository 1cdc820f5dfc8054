"""Makes a restored trial continue from its newest undamaged checkpoint."""

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


def continue_from_newest(trial: Trial) -> None:
    """Makes a trial continue from its newest undamaged checkpoint.

    Result rows after that checkpoint are deleted, since the trial writes them again.

    Args:
        trial: A restored trial that is not running.
    """
    folder = trial_folder(trial)
    if folder is None or not folder.is_dir():
        return
    from rllib_risk.core.checkpoint import checkpoint_number, numbered_checkpoints

    numbered = numbered_checkpoints(folder)
    if numbered:
        # A damaged checkpoint keeps its number, which must not be used again.
        last = checkpoint_number(numbered[-1])
        tune_internals.number_checkpoints_after(trial, last)
    # Checkpoints of RLlib's own algorithms cannot be checked for damage.
    checked = is_team_algorithm(trial.get_trainable_cls())
    if numbered and checked and not _exploits(trial, folder):
        remembered, newest = trial.checkpoint, _newest_whole(numbered)
        if newest is None:
            note(f"{trial_label(trial)}  has no usable checkpoint and starts again")
            tune_internals.forget_checkpoints(trial)
        elif remembered is None or Path(remembered.path) != newest:
            _adopt(trial, folder, newest)
    result = trial.latest_checkpoint_result
    if result is None or not result.metrics:
        cut_rows(folder, 0)  # It starts again, perhaps from a checkpoint of `restore`.
    elif ITERATION in result.metrics:
        cut_rows(folder, int(result.metrics[ITERATION]))


def _exploits(trial: Trial, folder: Path) -> bool:
    """Returns whether PBT gave the trial another trial's checkpoint."""
    result = trial.latest_checkpoint_result
    if result is None or not result.metrics:
        return False
    return Path(result.checkpoint.path).parent != folder


def _adopt(trial: Trial, folder: Path, checkpoint: Path) -> None:
    from rllib_risk.core.checkpoint import read_state

    iteration = int(read_state(checkpoint)["iteration"])
    row = row_at(folder, iteration)
    if row is None:
        # Only Tune's state still has totals such as the time.
        row = {**trial.last_result, ITERATION: iteration}
    row.pop("config", None)
    note(f"{trial_label(trial)}  continues from {checkpoint.name}, its newest")
    tune_internals.continue_from(trial, checkpoint, row)


def _newest_whole(checkpoints: Sequence[Path]) -> Path | None:
    from rllib_risk.core.checkpoint import CheckpointError, verify_checkpoint

    for checkpoint in reversed(checkpoints):
        try:
            return verify_checkpoint(checkpoint)
        except CheckpointError as error:
            note(f"{checkpoint.name} is not used: {error}")
    return None
