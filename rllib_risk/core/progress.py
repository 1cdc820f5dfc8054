"""What a trial does between two results, for the status lines of the command.

A trial writes a small file, at most once a second, into a folder that the command names
in the environment of all workers. On a machine without that folder nothing is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# Environment variable with the folder.
FOLDER = "RLLIB_RISK_PROGRESS"
_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """What a trial has done.

    Attributes:
        doing: What it does, such as ``sampling``.
        episodes: Episodes sampled.
        env_steps: Env steps sampled, those of running episodes included; from a
            dataset: learned from.
        updates: Updates of the networks.
        lost: Episodes that were lost to crashes of the environment.
    """

    doing: str
    episodes: int
    env_steps: int
    updates: int
    lost: int

    def __str__(self) -> str:
        """Such as ``sampling | 12 episodes | 340 env steps | 0 updates``."""
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
            trial: Id of the trial, by which it is read.
            every_s: Least time between two writings.
        """
        folder = os.environ.get(FOLDER)
        self._file = _file(folder, trial) if folder else None
        self._every_s = every_s
        self._next = 0.0

    def write(self, progress: Callable[[], Progress]) -> None:
        """Writes progress, unless that was done a moment ago.

        Args:
            progress: Makes what to write; called only then.
        """
        if self._file is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every_s
        part = self._file.with_suffix(".part")
        # A status line is not worth a failed trial.
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(asdict(progress())))
            part.replace(self._file)


def read_progress(trial: str) -> Progress | None:
    """Reads what a trial wrote last; None if it wrote nothing.

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
    """The progress of several trials together; there is at least one."""
    values = [asdict(progress) for progress in all_progress]
    doing = sorted({str(value.pop("doing")) for value in values})
    totals: Mapping[str, int] = {key: sum(v[key] for v in values) for key in values[0]}
    return Progress(", ".join(doing), **totals)


def _file(folder: str, trial: str) -> Path:
    return Path(folder) / f"{trial}.json"
