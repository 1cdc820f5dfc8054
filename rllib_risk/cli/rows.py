"""Keeps the rows of ``result.json`` and ``progress.csv`` consistent with checkpoints.

Tune writes both files to its session folder and copies them to the results about every
ten seconds. After SIGKILL, the results may lack rows from before the last checkpoint.
They may also hold rows from after it, which the resumed trial writes a second time. The
same happens when Tune restarts a failed trial (``max_failures``).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli.row_files import ITERATION, RESULTS, TABLE, cut_rows


class CheckpointRows(Callback):
    """Tune callback that copies rows at checkpoints and deletes repeated rows."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Copies the rows of the trials that are saving a checkpoint."""
        for trial in trials:
            if trial.is_saving:
                copy_rows(trial)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Deletes the rows that a restarted trial writes a second time."""
        result = trial.latest_checkpoint_result
        metrics = result.metrics if result is not None else None
        begin = int((metrics or {}).get(ITERATION, 0))
        # Tune's loggers open the files again when the trial starts.
        for folder in {Path(str(trial.local_path)), trial_folder(trial)}:
            if folder is not None:
                cut_rows(folder, begin)

    def get_state(self) -> dict[str, Any] | None:
        """Returns None: this callback has no state to store."""
        return None


def trial_folder(trial: Trial) -> Path | None:
    """Returns the folder of a trial's results; None if it is not on this machine."""
    if trial.storage.trial_dir_name is None:
        return None  # The trial has not started.
    if trial.storage.storage_filesystem.type_name != "local":
        return None
    return Path(str(trial.path))


def copy_rows(trial: Trial) -> None:
    """Copies rows from Tune's session folder to the results, one whole file at once."""
    target, source = trial_folder(trial), Path(str(trial.local_path))
    if target is None or target == source:
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS, TABLE):
        here, there = source / name, target / name
        if not here.is_file():
            continue
        if there.is_file() and there.stat().st_size >= here.stat().st_size:
            continue
        part = target / f".{name}.part"
        shutil.copyfile(here, part)
        part.replace(there)
