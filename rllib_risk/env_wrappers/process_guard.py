"""Ends a child process when this process ends, even by SIGKILL.

Ray ends actors with SIGKILL, so `close` is not called. A simulator that a library has
started would then run for ever.
"""

from __future__ import annotations

import subprocess
from typing import ClassVar

# `read` returns when the pipe closes; the system closes it when this process ends.
_WATCH = 'read _; kill -TERM "$1"; sleep 5; kill -KILL "$1"'


class ProcessGuard:
    """A shell that ends one process when this process ends.

    Attributes:
        pid: The watched process.
        watched: All processes that this process watches.
        shells: The shells that watch them.
    """

    watched: ClassVar[set[int]] = set()
    shells: ClassVar[set[int]] = set()

    def __init__(self, pid: int) -> None:
        """Starts watching.

        Args:
            pid: Number of a process of the same user.
        """
        self.pid = pid
        # In its own session, so that Ctrl-C in the terminal does not end the guard.
        self._shell = subprocess.Popen(
            ["sh", "-c", _WATCH, "sh", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.watched.add(pid)
        self.shells.add(self._shell.pid)

    def release(self) -> None:
        """Stops watching; the process continues. May be called twice."""
        self._shell.kill()
        self._shell.wait()
        self.watched.discard(self.pid)
        self.shells.discard(self._shell.pid)
        if self._shell.stdin is not None:
            self._shell.stdin.close()
