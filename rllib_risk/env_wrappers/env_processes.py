"""Tells which processes each environment of this process has started, and ends them.

A process belongs to the environment whose call started it. Other children, such as
Ray's, start between the calls; they belong to no environment and are left alone. Pauses
between two steps are too short to look at: what starts there counts as started in a
call.
"""

from __future__ import annotations

import threading

from rllib_risk.env_wrappers import child_processes
from rllib_risk.env_wrappers.child_processes import Process, end_processes
from rllib_risk.env_wrappers.process_guard import ProcessGuard

# Whose each process is; None: no environment has started it. The thread of the watchdog
# uses this register too.
_owners: dict[Process, EnvProcesses | None] = {}
_lock = threading.RLock()


class EnvProcesses:
    """The processes that one environment has started."""

    def __init__(self) -> None:
        """Starts without processes."""
        self._guards: dict[Process, ProcessGuard] = {}

    def find(self, since: float) -> None:
        """Records the children that were started since a moment and are not known.

        With a child its descendants are recorded, because this process may adopt them.

        Args:
            since: A time of ``time.monotonic()``.
        """
        with _lock:
            found = _unknown(since)
            if found:
                _forget_ended()
            for process in found:
                owner = _owner_of_group(process, self)
                for one in (process, *child_processes.descendants(process)):
                    _owners.setdefault(one, owner)
                if owner is not None and process.pid not in ProcessGuard.watched:
                    owner._guards[process] = ProcessGuard(process.pid)

    def end(self) -> None:
        """Ends all recorded processes that still run, and the rest of their groups."""
        with _lock:
            mine = {process for process, owner in _owners.items() if owner is self}
            groups = {p.own_group for p in mine} - {None}
            rest = child_processes.children() if groups else []
            end_processes(mine.union(p for p in rest if p.own_group in groups))
            for process in mine:
                self._forget(process)

    def _forget(self, process: Process) -> None:
        _owners.pop(process)
        if process in self._guards:
            self._guards.pop(process).release()


def leave_alone(since: float) -> None:
    """Records that no environment was called since a moment.

    Args:
        since: A time of ``time.monotonic()``. Children that were started later belong
            to no environment, except adopted ones in the group of an environment.
    """
    with _lock:
        for process in _unknown(since):
            _owners[process] = _owner_of_group(process, None)


def _unknown(since: float) -> list[Process]:
    running = child_processes.children()
    if not running:
        return []
    first = child_processes.ticks(since)
    return [p for p in running if p.started >= first and p not in _owners]


def _owner_of_group(
    process: Process, default: EnvProcesses | None
) -> EnvProcesses | None:
    """The environment that has started the process group of a process."""
    if process.own_group is not None:
        for other, owner in _owners.items():
            if other.own_group == process.own_group:
                return owner
    return default


def _forget_ended() -> None:
    """Drops processes that have ended, except those whose group still runs."""
    groups = {p.own_group for p in child_processes.children()} - {None}
    for process, owner in list(_owners.items()):
        if process.own_group in groups or child_processes.find(process.pid) == process:
            continue
        if owner is None:
            _owners.pop(process)
        else:
            owner._forget(process)
