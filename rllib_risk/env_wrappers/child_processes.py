"""The processes that this one has started, as Linux lists them under /proc.

Elsewhere none are found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rllib_risk.env_wrappers.process_guard import ProcessGuard

# How long a process may take to end after SIGTERM.
_TERM_S = 1.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A process; another one with the same number has started at another time.

    Attributes:
        pid: Its number.
        started: When it started, in ticks of the clock since the machine did.
    """

    pid: int
    started: int


def started_since(moment: float) -> list[Process]:
    """Direct children of this process that it has started since a moment.

    Args:
        moment: As ``time.monotonic()`` tells it.

    Returns:
        Those that still run, without the guards of other ones.
    """
    if not _has_children():
        return []
    age = time.monotonic() - moment
    since = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * _TICKS_PER_S)
    found = [_process(pid) for pid in _children(os.getpid())]
    return [
        process
        for process in found
        if process is not None
        and process.started >= since
        and process.pid not in ProcessGuard.shells
    ]


def end_processes(processes: Iterable[Process]) -> None:
    """Ends processes and all that they have started: SIGTERM, then SIGKILL.

    Args:
        processes: Some may be gone.
    """
    left = {p for p in processes if _process(p.pid) == p}
    left |= {child for process in left for child in _descendants(process.pid)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.pid, number)
        deadline = time.monotonic() + _TERM_S
        while left and time.monotonic() < deadline:
            left = {process for process in left if _still_runs(process)}
            if left:
                time.sleep(0.005)


def _still_runs(process: Process) -> bool:
    with contextlib.suppress(OSError):  # it is no child of this process
        if os.waitpid(process.pid, os.WNOHANG)[0]:
            return False
    return _process(process.pid) == process


def _has_children() -> bool:
    """Whether this process has any child at all; takes a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children(pid: int) -> list[int]:
    """The children of a process, by all of its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            found += map(int, text.split())
    return found


def _descendants(pid: int) -> list[Process]:
    found = []
    for child in _children(pid):
        process = _process(child)
        if process is not None:
            found += [process, *_descendants(child)]
    return found


def _process(pid: int) -> Process | None:
    """A process by its number; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else Process(pid, int(fields[19]))
