"""Access to non-public parts of Ray Tune; see ``ray_internals.py``."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def default_storage_path() -> str:
    """Returns the default folder of Tune's results, ``~/ray_results``."""
    from ray.train.constants import DEFAULT_STORAGE_PATH

    return DEFAULT_STORAGE_PATH


def share_storage(experiments: Sequence[Any]) -> None:
    """Makes several Tune experiments write to the folder of the first one.

    Tune copies only the results in the storage of the first experiment, but each
    experiment has a working folder of its own.
    """
    for experiment in experiments:
        experiment.storage = experiments[0].storage
        experiment.spec["storage"] = experiments[0].storage


def trial_folder(trial: Any) -> Path:
    """Folder of a trial's results."""
    return Path(trial.storage.trial_fs_path)


def trial_id(config: Any) -> str:
    """Returns the id of an algorithm's trial; a fixed text outside of Tune.

    Touches ``__trial_info__``, which Tune adds to the dict of a trial. The public
    ``Trainable.trial_id`` does not find it, because RLlib converts that dict to a
    configuration. Checked with Ray 2.60.0.

    Args:
        config: Argument ``config`` of the algorithm's constructor.
    """
    info = config.get("__trial_info__") if isinstance(config, dict) else None
    return "no-trial" if info is None else info.trial_id


def trial_actor(trial: Any) -> Any:
    """The actor in which a trial runs; None if it does not run."""
    return trial.temporary_state.ray_actor


def saved_checkpoints(trial: Any) -> list[Any]:
    """The checkpoints that a trial still has.

    Returns:
        Objects with ``checkpoint`` and ``metrics``, the last result before the save.
    """
    # The private CheckpointManager of Ray Train; a trial has no public list of them.
    manager = trial.run_metadata.checkpoint_manager
    return list(manager.best_checkpoint_results)


def holds_pickled_state(checkpoint: Any) -> bool:
    """Whether Tune would unpickle a file of a checkpoint, and so run its code.

    Touches the name of the file that ``Trainable.restore`` loads with pickle, and
    ``_TrainingResult.checkpoint``. Checked with 2.60.0.

    Args:
        checkpoint: What ``Trainable.restore`` takes: a folder, a ``Checkpoint`` or a
            saved result.
    """
    import pyarrow.fs as pafs

    name = "_dict_checkpoint.pkl"
    if isinstance(checkpoint, (str, Path)):
        return Path(checkpoint, name).exists()
    inner = getattr(checkpoint, "checkpoint", checkpoint)
    (info,) = inner.filesystem.get_file_info([f"{inner.path}/{name}"])
    return bool(info.type != pafs.FileType.NotFound)


def listed_values(value: Any) -> list[Any] | None:
    """Returns the values that a Tune search space lists, or the ends of its range.

    Args:
        value: Any value of a configuration.

    Returns:
        The values; empty for a function that samples. None if it is no search space.
    """
    # The classes behind tune.choice(), tune.uniform() and so on.
    from ray.tune.search.sample import Categorical, Domain

    if isinstance(value, Mapping) and value.keys() == {"grid_search"}:
        return list(value["grid_search"])
    if isinstance(value, Categorical):
        return list(value.categories)
    if not isinstance(value, Domain):
        return None
    low, high = getattr(value, "lower", None), getattr(value, "upper", None)
    # The upper end of whole numbers is exclusive.
    high = high - 1 if isinstance(high, int) else high
    return [end for end in (low, high) if end is not None and math.isfinite(end)]


# Resuming a stopped Tune run


def num_trials_in_state(file: Path) -> int:
    """Returns how many trials a state file of Tune holds.

    Touches the format of ``experiment_state-*.json``. Checked with 2.60.0.

    Args:
        file: The state file.

    Raises:
        ValueError: If the file was cut short or changed.
    """
    try:
        state = json.loads(file.read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(state, dict) or not isinstance(state.get("trial_data"), list):
        raise ValueError("it holds no trials")
    return len(state["trial_data"])


def continue_from(trial: Any, checkpoint: Path, metrics: Mapping[str, Any]) -> None:
    """Makes a restored trial continue from another checkpoint than Tune would use.

    Touches ``_TrainingResult``, ``_CheckpointManager.register_checkpoint`` and
    ``_CheckpointManager._checkpoint_results``. Checked with 2.60.0.

    Args:
        trial: A Tune trial that does not run.
        checkpoint: Folder of the checkpoint.
        metrics: The result after which the checkpoint was saved.
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
    """Makes a restored trial start again, because no checkpoint of it is complete.

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

    Touches ``_CheckpointManager.checkpoint_config``, which is the manager's own copy.
    Checked with 2.60.0.

    Args:
        trial: A Tune trial.
        frequency: Iterations between checkpoints; 0: no checkpoints.
        at_end: Whether to save a checkpoint at the end of the trial.
    """
    config = trial.run_metadata.checkpoint_manager.checkpoint_config
    config.checkpoint_frequency = frequency
    config.checkpoint_at_end = at_end
    trial.run_metadata.invalidate_cache()


def table_logger() -> Any:
    """Returns a logger of ``progress.csv`` that keeps its columns after ``--resume``.

    Tune's own logger writes the rows of a resumed trial in the order of its first new
    result, below a header with another order. It also keeps the file of a failed trial
    open, so that it does not see that rows were dropped. Touches ``_setup_trial``,
    ``_trial_files``, ``_trial_csv`` and ``_trial_continue`` of ``CSVLoggerCallback``.
    Checked with 2.60.0.
    """
    from ray.tune.logger import CSVLoggerCallback

    class TableLogger(CSVLoggerCallback):
        def log_trial_start(self, trial: Any) -> None:
            file = self._trial_files.pop(trial, None)
            if file is not None:
                file.close()

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


# Population based training


def pbt_checkpoints(scheduler: Any) -> set[str]:
    """Returns paths of checkpoints that population based training may copy from.

    Touches ``PopulationBasedTraining._trial_state`` and ``_FutureTrainingResult`` (a
    checkpoint that is being written). Checked with Ray 2.60.0.

    Args:
        scheduler: Tune's PBT or PB2 scheduler.
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
    """Returns paths of the checkpoints from which unfinished trials continue.

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
        keep: Number of best checkpoints to keep. The latest one is kept too.
        needed: Paths of checkpoints that are kept in any case.
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
