"""Everything of Ray that is not public, in one place.

Each function says what it touches and which versions it was checked with.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def num_trials_in_state(file: Path) -> int:
    """Returns how many trials a state file of Tune holds.

    Touches the format of ``experiment_state-*.json``. Checked with 2.60.0.

    Args:
        file: The state file.

    Raises:
        ValueError: If the file was cut short.
    """
    state = json.loads(file.read_text())
    if not isinstance(state, dict) or "trial_data" not in state:
        raise ValueError("it holds no trials")
    return len(state["trial_data"])


def continue_from(trial: Any, checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Makes a restored trial go on from another checkpoint than Tune remembers.

    Touches ``_TrainingResult``, ``_CheckpointManager.register_checkpoint`` and
    ``_CheckpointManager._checkpoint_results``. Checked with 2.60.0.

    Args:
        trial: A Tune trial that does not run.
        checkpoint: Folder of the checkpoint.
        metrics: The result after which it was saved.
    """
    from ray.train._internal.session import _TrainingResult
    from ray.tune import Checkpoint

    manager = trial.run_metadata.checkpoint_manager
    known = {result.checkpoint.path for result in manager._checkpoint_results}
    result = _TrainingResult(Checkpoint.from_directory(checkpoint), dict(metrics))
    if str(checkpoint) in known:
        manager._latest_checkpoint_result = result
    else:
        manager.register_checkpoint(result)
    trial.invalidate_json_state()
    trial.run_metadata.invalidate_cache()


def forget_checkpoints(trial: Any) -> None:
    """Makes a restored trial begin again, since none of its checkpoints is whole.

    Touches the fields of ``_CheckpointManager``. Checked with 2.60.0.
    """
    manager = trial.run_metadata.checkpoint_manager
    manager._checkpoint_results = []
    manager._latest_checkpoint_result = None
    trial.run_metadata.last_result = {}


def number_checkpoints_after(trial: Any, number: int) -> None:
    """Gives the trial's next checkpoint the number after ``number``.

    Touches ``StorageContext.current_checkpoint_index``. Checked with 2.60.0.
    """
    trial.storage.current_checkpoint_index = number
    trial.invalidate_json_state()


def save_trial_at(trial: Any, frequency: int, at_end: bool) -> None:
    """Changes when a restored trial saves checkpoints.

    Touches ``_CheckpointManager.checkpoint_config``, which is its own copy. Checked
    with 2.60.0.

    Args:
        trial: A Tune trial.
        frequency: Iterations between checkpoints; 0: none.
        at_end: Whether the end of the trial saves one.
    """
    config = trial.run_metadata.checkpoint_manager.checkpoint_config
    config.checkpoint_frequency = frequency
    config.checkpoint_at_end = at_end
    trial.run_metadata.invalidate_cache()


def table_logger() -> Any:
    """Returns a logger of ``progress.csv`` that keeps its columns after ``--resume``.

    Tune's own logger writes the rows of a resumed trial in the order of its first new
    result, below a header with another order. Touches ``_setup_trial``,
    ``_trial_files``, ``_trial_csv`` and ``_trial_continue`` of ``CSVLoggerCallback``.
    Checked with 2.60.0.
    """
    from ray.tune.logger import CSVLoggerCallback

    class TableLogger(CSVLoggerCallback):
        def log_trial_result(
            self, iteration: int, trial: Any, result: dict[str, Any]
        ) -> None:
            if trial not in self._trial_files:
                self._setup_trial(trial)
            if self._trial_csv[trial] is None and self._trial_continue[trial]:
                file = self._trial_files[trial]
                with open(file.name, newline="") as written:
                    columns = next(csv.reader(written))
                self._trial_csv[trial] = csv.DictWriter(file, columns)
            super().log_trial_result(iteration, trial, result)

    return TableLogger()


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
