"""Keeps the rows of ``result.json`` and ``progress.csv`` in step with checkpoints.

Tune writes both files to its session folder and copies them to the results about every
ten seconds. After SIGKILL the results would lack rows from before the last checkpoint,
or hold rows from after it, which the resumed trial writes once more. The same holds for
a failed trial that Tune starts again (``max_failures``).
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from rllib_risk.cli.output import note

RESULTS = "result.json"
TABLE = "progress.csv"
ITERATION = "training_iteration"


class RowsBesideCheckpoints(Callback):
    """Copies rows at every checkpoint, and drops those that a failed trial repeats."""

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Copies the rows of the trials that have begun to save."""
        for trial in trials:
            if trial.is_saving:
                copy_rows(trial)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Drops the rows that a failed trial writes again from its last checkpoint."""
        result = trial.latest_checkpoint_result
        metrics = result.metrics if result is not None else None
        begin = int((metrics or {}).get(ITERATION, 0))
        # Tune's loggers open the files again when the trial starts.
        for folder in {Path(str(trial.local_path)), trial_folder(trial)}:
            if folder is not None:
                cut_rows(folder, begin)

    def get_state(self) -> dict[str, Any] | None:
        """Nothing of this belongs into the experiment's state."""
        return None


def trial_folder(trial: Trial) -> Path | None:
    """Returns the folder of a trial's results; None if it is not on this machine."""
    if trial.storage.trial_dir_name is None:
        return None  # A new trial, which has not started.
    if trial.storage.storage_filesystem.type_name != "local":
        return None
    return Path(str(trial.path))


def copy_rows(trial: Trial) -> None:
    """Copies rows from Tune's session folder to the results, never a part of a file."""
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


def row_at(folder: Path, iteration: int) -> dict[str, Any] | None:
    """Returns the last result of an iteration; None if the results lack it."""
    found = None
    for line in _lines(folder / RESULTS):
        row = _parse(line)
        if row is not None and row.get(ITERATION) == iteration:
            found = row
    return found


def cut_rows(folder: Path, iteration: int) -> None:
    """Drops the rows after an iteration, and a last line that was cut short.

    Args:
        folder: Folder of a trial.
        iteration: The iteration that a trial goes on from; 0: it begins again.
    """
    lines = _lines(folder / RESULTS)
    kept = list(lines)
    while kept and ((row := _parse(kept[-1])) is None or row[ITERATION] > iteration):
        kept.pop()
    if kept != lines:
        _replace(folder / RESULTS, "".join(kept))
    lines = _lines(folder / TABLE)
    if not lines:
        return
    header = _cells(lines[0])
    if ITERATION not in header:
        note(f"{folder / TABLE} is damaged and begins again; {RESULTS} has all rows")
        _replace(folder / TABLE, "")
        return
    column = header.index(ITERATION)
    kept = list(lines)
    while len(kept) > 1 and not _is_row_until(kept[-1], column, iteration):
        kept.pop()
    if iteration == 0:
        kept = []  # The next row may have other columns.
    if kept != lines:
        _replace(folder / TABLE, "".join(kept))


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        return []
    # As the file has them: a table ends its lines in "\r\n".
    with open(file, encoding="utf-8", errors="replace", newline="") as stream:
        return stream.readlines()


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get(ITERATION)) is int else None


def _is_row_until(line: str, column: int, iteration: int) -> bool:
    values = _cells(line)
    if not line.endswith("\n") or len(values) <= column:
        return False
    return values[column].isdecimal() and int(values[column]) <= iteration


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    with open(part, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    part.replace(file)
