"""Status lines, which show that a command is still working."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rllib_risk.cli.output import note

# Seconds without a line after which a status line is printed.
STATUS_S = 30.0


def duration(seconds: float) -> str:
    """Formats seconds as ``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_line(seconds: float, doing: object) -> str:
    """Formats a line which shows that a command is still working.

    Args:
        seconds: Seconds since the last line.
        doing: Current activity, or the progress of the run.
    """
    return f"still running, {duration(seconds)} after the last line: {doing}"


@contextlib.contextmanager
def status_lines(
    doing: Callable[[], object], show: Callable[[str], None] = note
) -> Iterator[None]:
    """Context manager that prints at intervals what the command is doing.

    Args:
        doing: Returns the current activity; called in another thread.
        show: Prints a line.

    Yields:
        Nothing.
    """
    done, begin = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(STATUS_S):
            show(status_line(time.monotonic() - begin, doing()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def playing() -> Iterator[None]:
    """Context manager with status lines for a command that plays episodes itself."""
    # The loop imports NumPy, which other commands do not need.
    from rllib_risk.env_wrappers.episode_loop import PLAYED

    with status_lines(lambda: f"played {PLAYED}"):
        yield
