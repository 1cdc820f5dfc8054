"""Finds and ends the processes that this process has started.

It reads Linux's /proc. On other systems it finds no processes.
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

# Time that processes have to end after SIGTERM, and again after SIGKILL.
_TERM_S = 1.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """A process, identified by its number and its start time.

    The system reuses numbers, so the number alone does not identify a process.

    Attributes:
        pid: Number of the process.
        started: Start time, in clock ticks since the machine started.
    """

    pid: int
    started: int


def started_since(moment: float) -> list[Process]:
    """Direct children that this process has started since a moment.

    Args:
        moment: A time of ``time.monotonic()``.

    Returns:
        The children that still run, except the shells of ``ProcessGuard``.
    """
    if not _has_children():
        return []
    # In this order, a pause between the two calls makes `since` earlier, so that no
    # process is missed.
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    since = int((now - (time.monotonic() - moment)) * _TICKS_PER_S)
    found = [_process(pid) for pid in _children(os.getpid())]
    return [
        process
        for process in found
        if process is not None
        and process.started >= since
        and process.pid not in ProcessGuard.shells
    ]


def end_processes(processes: Iterable[Process]) -> None:
    """Ends processes and all their descendants: SIGTERM, then SIGKILL.

    Args:
        processes: The processes; some may have ended already.
    """
    left = {one for p in processes if _process(p.pid) == p for one in _stopped(p)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            _send(process, number)
            _send(process, signal.SIGCONT)
        deadline = time.monotonic() + _TERM_S
        while left and time.monotonic() < deadline:
            left = {process for process in left if _still_runs(process)}
            if left:
                time.sleep(0.005)


def _still_runs(process: Process) -> bool:
    # In this order, waitpid() also collects a process that has just ended, which would
    # otherwise stay a zombie.
    runs = _process(process.pid) == process
    with contextlib.suppress(OSError):  # it is not a child of this process
        os.waitpid(process.pid, os.WNOHANG)
    return runs


def _has_children() -> bool:
    """Whether this process has any children; takes a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children(pid: int) -> list[int]:
    """The children that all threads of a process have started."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return []
    found: list[int] = []
    for thread in threads:
        with contextlib.suppress(OSError):  # a thread may end meanwhile
            text = Path(f"/proc/{pid}/task/{thread}/children").read_text()
            found += map(int, text.split())
    return found


def _stopped(process: Process) -> list[Process]:
    """Stops a process and its descendants, so that they start no new processes.

    Returns:
        The process and its descendants.
    """
    _send(process, signal.SIGSTOP)
    children = [_process(pid) for pid in _children(process.pid)]
    return [process, *(one for c in children if c is not None for one in _stopped(c))]


def _send(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):  # it may have ended
        os.kill(process.pid, number)


def _process(pid: int) -> Process | None:
    """A process by its number; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else Process(pid, int(fields[19]))
