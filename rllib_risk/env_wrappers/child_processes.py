"""Finds and ends the child processes of this process.

It reads Linux's /proc. On other systems it finds no processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# Time that processes have to end after SIGTERM, and again after SIGKILL.
_TERM_S = 1.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# From <linux/prctl.h>.
_PR_SET_CHILD_SUBREAPER = 36
# Orphans that have ended stay in the system's table until their number exceeds this.
_MAX_ENDED = 64

# Numbers of processes that this package starts for itself.
helpers: set[int] = set()


@dataclass(frozen=True)
class Process:
    """A process, identified by its number and its start time.

    The system reuses numbers, so the number alone does not identify a process.

    Attributes:
        pid: Number of the process.
        started: Start time, in clock ticks since the machine started.
        own_group: Its process group; None: the one of this process.
    """

    pid: int
    started: int
    own_group: int | None = field(default=None, compare=False)


def adopt_orphans() -> None:
    """Makes this process the parent of its descendants whose parents end.

    Otherwise the system's first process becomes their parent, and they cannot be found.
    Only Linux has this; elsewhere the function does nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def find(pid: int) -> Process | None:
    """Reads a process.

    Args:
        pid: Its number.

    Returns:
        The process; None if it has ended.
    """
    read = _read(pid)
    return None if read is None or read[1] == "Z" else read[0]


def children() -> list[Process]:
    """The direct children of this process that still run, adopted ones included.

    Returns:
        The children, except the processes of this package.
    """
    if not _has_children():
        return []
    found = [read for pid in _children(os.getpid()) if (read := _read(pid)) is not None]
    _collect([process for process, state in found if state == "Z"])
    return [
        process
        for process, state in found
        if state != "Z" and process.pid not in helpers
    ]


def descendants(process: Process) -> list[Process]:
    """All processes below a process.

    Args:
        process: The process.

    Returns:
        Its children, their children, and so on.
    """
    below = [find(pid) for pid in _children(process.pid)]
    return [one for c in below if c is not None for one in (c, *descendants(c))]


def ticks(moment: float) -> int:
    """Converts a moment to the unit of :attr:`Process.started`.

    Args:
        moment: A time of ``time.monotonic()``.

    Returns:
        Clock ticks since the machine started, rounded down.
    """
    # In this order, a pause between the two calls makes the result smaller, so that no
    # process is missed.
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return int((now - (time.monotonic() - moment)) * _TICKS_PER_S)


def end_processes(processes: Iterable[Process]) -> None:
    """Ends processes and all their descendants: SIGTERM, then SIGKILL.

    Args:
        processes: The processes; some may have ended already.
    """
    everyone = {one for p in processes if find(p.pid) == p for one in _stopped(p)}
    left = everyone
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            _send(process, number)
            _send(process, signal.SIGCONT)
        deadline = time.monotonic() + _TERM_S
        while left and time.monotonic() < deadline:
            left = {process for process in left if find(process.pid) == process}
            if left:
                time.sleep(0.005)
    for process in everyone - left:
        # A process that has ended stays a zombie until its parent collects it. This
        # process has adopted those whose parents have ended as well.
        with contextlib.suppress(OSError):  # it is not a child of this process
            os.waitpid(process.pid, os.WNOHANG)


def _collect(ended: list[Process]) -> None:
    """Removes the oldest children that have ended, if there are too many.

    Children that this process has adopted have no code that waits for them. They cannot
    be told from children with such code, so only many of them are removed.
    """
    for process in sorted(ended, key=lambda one: one.started)[:-_MAX_ENDED]:
        with contextlib.suppress(OSError):
            os.waitpid(process.pid, os.WNOHANG)


def _has_children() -> bool:
    """Whether this process has any children; takes a microsecond."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):  # not every system has waitid()
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
    below = [find(pid) for pid in _children(process.pid)]
    return [process, *(one for c in below if c is not None for one in _stopped(c))]


def _send(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):  # it may have ended
        os.kill(process.pid, number)


def _read(pid: int) -> tuple[Process, str] | None:
    """A process and its state, such as Z for one that has ended; None: there is none"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in brackets may contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    group = int(fields[2])
    own_group = None if group == os.getpgrp() else group
    return Process(pid, int(fields[19]), own_group), fields[0]
