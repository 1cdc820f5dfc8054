"""Ends a child process when this process ends, even by SIGKILL.

SIGKILL ends a runner without a call of `close`. A simulator that a library has started
would then run for ever.
"""

from __future__ import annotations

import subprocess
from typing import ClassVar

from rllib_risk.env_wrappers import child_processes

# `read` returns when the pipe closes; the system closes it when this process ends. The
# arguments are number, start time and own process group of the watched process. Without
# /proc, as on macOS, only the process itself is ended.
_WATCH = r"""
tree() {
  kill -STOP "$1" && echo "$1"
  for child in $(cat "/proc/$1/task/"*/children); do tree "$child"; done
}
read _
now=$(sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20)
# Another start time: the system has given the number to another process.
[ "${now:-$2}" = "$2" ] || exit
all="$(tree "$1") ${3:+-$3}"
for signal in TERM KILL; do
  kill -$signal $all
  kill -CONT $all
  [ $signal = KILL ] || sleep 5
done
"""


class ProcessGuard:
    """A shell that ends a process, its descendants and its group with this process.

    Attributes:
        pid: The watched process.
        watched: All processes that this process watches.
    """

    watched: ClassVar[set[int]] = set()

    def __init__(self, pid: int) -> None:
        """Starts watching.

        Args:
            pid: Number of a process of the same user.
        """
        self.pid = pid
        process = child_processes.find(pid)
        started = group = ""
        if process is not None:
            started, group = str(process.started), str(process.own_group or "")
        # In its own session, so that Ctrl-C in the terminal does not end the guard.
        self._shell = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", str(pid), started, group],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.watched.add(pid)
        child_processes.helpers.add(self._shell.pid)

    def release(self) -> None:
        """Stops watching; the process continues. May be called twice."""
        self._shell.kill()
        self._shell.wait()
        self.watched.discard(self.pid)
        child_processes.helpers.discard(self._shell.pid)
        if self._shell.stdin is not None:
            self._shell.stdin.close()
