"""Reports how experiments and trials ended."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_risk.cli.output import EXIT_FAILED, fail, note, say
from rllib_risk.cli.root_cause import root_cause
from rllib_risk.core import tune_internals

_FULL_DISK = f"Errno {errno.ENOSPC}]"
# Likely causes of errors whose message from Ray does not name the cause.
_HINTS = {
    "worker process has died": "The environment may have ended the process (os._exit, a"
    " crash of native code), or memory ran out.",
    "TaskCancelledError": "The environment may have raised KeyboardInterrupt.",
}


@dataclass(frozen=True)
class Ending:
    """Outcome of one experiment.

    Attributes:
        name: Name of its folder; without a folder, name of the experiment.
        code: Exit code of the experiment.
        text: Outcome in words, for the list at the end.
    """

    name: str
    code: int
    text: str


def failed(name: str, error: BaseException) -> Ending:
    """Reports an experiment that failed with an exception.

    Args:
        name: Name of its folder.
        error: The exception.

    Returns:
        The outcome of the experiment.
    """
    cause = root_cause(f"{type(error).__name__}: {error}")
    fail(f"experiment {name} failed: {cause}")
    return Ending(name, EXIT_FAILED, f"failed: {_first_line(cause)}")


def print_endings(endings: Sequence[Ending]) -> None:
    """Prints one line per experiment; nothing for a single experiment."""
    if len(endings) < 2:
        return
    width = max(len(ending.name) for ending in endings)
    say("\nHow the experiments ended:")
    for ending in endings:
        say(f"  {ending.name:<{width}}  {ending.text}")


def report_failures(trials: Sequence[Any]) -> list[str]:
    """Prints the root cause of each failed trial.

    Args:
        trials: Tune's trials.

    Returns:
        One line for each failed trial.
    """
    causes = []
    for trial in trials:
        if trial.status != trial.ERROR:
            continue
        if not trial.error_file:
            fail(f"trial {trial} failed; Tune recorded no reason.")
            causes.append("Tune recorded no reason")
            continue
        log = Path(trial.error_file)
        # Tune writes the log to its session folder and copies it to the results.
        kept = tune_internals.trial_folder(trial) / log.name
        cause = root_cause(log.read_text())
        hint = "".join(f"\n  {h}" for text, h in _HINTS.items() if text in cause)
        fail(f"trial {trial} failed: {cause}{hint}\n  full text: {kept}")
        causes.append(_first_line(cause))
    if any(_FULL_DISK in cause for cause in causes):
        note(
            "The disk of the results is full. Earlier checkpoints are undamaged. Free"
            " space, then use --resume. If Tune's state is damaged, --resume names a"
            " checkpoint for --restore."
        )
    return causes


def report_interrupt(interrupt: Any, command: str) -> None:
    """Prints how to continue after a signal or a time budget.

    Args:
        interrupt: The ``Interrupt`` of the run.
        command: The command line without ``--resume``.
    """
    if interrupt.killed:
        note(
            f"{len(interrupt.killed)} trial(s) could not finish their iteration in time"
            " and will continue from their last checkpoint, if they have one."
        )
    what = "Interrupted" if interrupt.exit_code else "Stopped by the time budget"
    note(f"{what}. Continue with: {command} --resume")


def summary_of_failures(causes: Sequence[str], num_trials: int) -> str:
    """Returns ``failed: 2 of 4 trials: ValueError: no such level``."""
    others = "" if len(set(causes)) == 1 else " (and other causes)"
    which = f"{len(causes)} of {num_trials} trials: " if num_trials > 1 else ""
    return f"failed: {which}{causes[0]}{others}"


def _first_line(text: str) -> str:
    return text.splitlines()[0]
