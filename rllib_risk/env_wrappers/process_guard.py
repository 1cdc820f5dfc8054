"""Ends a child process when this process is gone, however it went.

Ray ends actors with SIGKILL, and `close` is not called, and a simulator that was
started by a library goes on for ever.
"""

from __future__ import annotations

import subprocess
from typing import ClassVar

# Reads until the other end of the pipe closes, which the system does for the dead.
_WATCH = 'read _; kill -TERM "$1"; sleep 5; kill -KILL "$1"'


class ProcessGuard:
    """Watches one process on behalf of this one.

    Attributes:
        pid: The process that is watched.
        watched: All processes that this one has watched.
        shells: The processes that watch them.
    """

    watched: ClassVar[set[int]] = set()
    shells: ClassVar[set[int]] = set()

    def __init__(self, pid: int) -> None:
        """Starts watching.

        Args:
            pid: A process of this user.
        """
        self.pid = pid
        # A session of its own: Ctrl-C in the terminal is not for the guard.
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
        """Stops watching; the process is left alone. May be called twice."""
        self._shell.kill()
        self._shell.wait()
        self.watched.discard(self.pid)
        self.shells.discard(self._shell.pid)
        if self._shell.stdin is not None:
            self._shell.stdin.close()
