"""Progress of a trial between two results, for the status lines of the command.

A trial writes a small file, at most once a second, into a folder. The command sets the
folder in an environment variable of all workers. A machine without the folder writes
nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# Environment variable that holds the folder.
FOLDER = "RLLIB_RISK_PROGRESS"
_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """Progress of a trial.

    Attributes:
        doing: Current activity, such as ``sampling``.
        episodes: Episodes sampled.
        env_steps: Env steps sampled, including those of running episodes; with a
            dataset, env steps learned from.
        updates: Updates of the networks.
        lost: Episodes that were lost to crashes of the environment.
    """

    doing: str
    episodes: int
    env_steps: int
    updates: int
    lost: int

    def __str__(self) -> str:
        """Formats it as ``sampling | 12 episodes | 340 env steps | 0 updates``."""
        parts = [
            self.doing,
            f"{self.episodes:,} episodes",
            f"{self.env_steps:,} env steps",
            f"{self.updates:,} updates",
        ]
        if self.lost:
            parts.append(f"{self.lost:,} lost")
        return " | ".join(parts)


class ProgressWriter:
    """Writes the progress of one trial."""

    def __init__(self, trial: str, every_s: float = _EVERY_S) -> None:
        """Initializes the writer.

        Args:
            trial: Id of the trial; :func:`read_progress` finds the file by it.
            every_s: Minimum time between two writes, in seconds.
        """
        folder = os.environ.get(FOLDER)
        self._file = _file(folder, trial) if folder else None
        self._every_s = every_s
        self._next = 0.0

    def write(self, progress: Callable[[], Progress]) -> None:
        """Writes progress, unless the last write was less than ``every_s`` ago.

        Args:
            progress: Returns the progress; called only if it is written.
        """
        if self._file is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        part = self._file.with_suffix(".part")
        # A status line that cannot be written must not fail the trial.
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(asdict(progress())))
            part.replace(self._file)


def read_progress(trial: str) -> Progress | None:
    """Reads the last progress of a trial; None if there is none.

    Args:
        trial: Id of the trial.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        return None
    try:
        values = json.loads(_file(folder, trial).read_text())
        return Progress(**values)
    except (OSError, ValueError, TypeError):
        return None


def sum_up(all_progress: list[Progress]) -> Progress:
    """Adds up the progress of one or more trials."""
    values = [asdict(progress) for progress in all_progress]
    doing = sorted({str(value.pop("doing")) for value in values})
    totals: Mapping[str, int] = {key: sum(v[key] for v in values) for key in values[0]}
    return Progress(", ".join(doing), **totals)


def _file(folder: str, trial: str) -> Path:
    return Path(folder) / f"{trial}.json"
