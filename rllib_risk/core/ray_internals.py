"""Everything of Ray that is not public, in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def pbt_checkpoints(scheduler: Any) -> set[str]:
    """Paths of the checkpoints that population based training may copy from.

    Touches ``PopulationBasedTraining._trial_state`` and ``_FutureTrainingResult`` (a
    checkpoint that is being written). Checked with Ray 2.60.0.

    Args:
        scheduler: Tune's PBT or PB2.
    """
    from ray.train._internal.session import _FutureTrainingResult

    paths = set()
    for state in scheduler._trial_state.values():
        checkpoint = state.last_checkpoint
        if isinstance(checkpoint, _FutureTrainingResult):
            saved = checkpoint.resolve(block=False)
            checkpoint = saved.checkpoint if saved else None
        if checkpoint is not None:
            paths.add(checkpoint.path)
    return paths


def latest_checkpoints(trials: Iterable[Any]) -> set[str]:
    """Paths of the checkpoints that unfinished trials go on from.

    Touches ``Trial.checkpoint``. Checked with Ray 2.60.0.

    Args:
        trials: Tune's trials.
    """
    open_trials = (trial for trial in trials if not trial.is_finished())
    return {trial.checkpoint.path for trial in open_trials if trial.checkpoint}


def delete_worst_checkpoints(trial: Any, keep: int, needed: set[str]) -> None:
    """Deletes all but the best checkpoints of a trial, as Tune's manager would.

    Touches ``_CheckpointManager._checkpoint_results``, which is sorted from worst to
    best, and ``_latest_checkpoint_result``. Checked with Ray 2.60.0.

    Args:
        trial: Tune's trial.
        keep: How many to keep. The latest one stays beside them.
        needed: Paths of checkpoints that stay.
    """
    manager = trial.run_metadata.checkpoint_manager
    results: Sequence[Any] = manager._checkpoint_results
    latest = manager._latest_checkpoint_result
    stay = {*needed, *(result.checkpoint.path for result in results[-keep:])}
    if latest is not None and latest.checkpoint is not None:
        stay.add(latest.checkpoint.path)
    kept = [result for result in results if result.checkpoint.path in stay]
    for result in results:
        if result.checkpoint.path not in stay:
            result.checkpoint.filesystem.delete_dir(result.checkpoint.path)
    manager._checkpoint_results = kept
