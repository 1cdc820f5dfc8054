"""Raises an exception in a thread whose call takes too long.

In the main thread, where Ray's actors run their methods, a signal does this and also
interrupts system calls. The signal is SIGURG, because an environment may use SIGALRM
itself. In another thread, the exception is raised when that thread runs Python code
again.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Overdue(BaseException):
    """Raised in an overdue call. It is not an Exception, which the call might catch."""


# Says whether the call that the next SIGURG must interrupt still runs.
_still_runs: Callable[[], bool] | None = None
_previous_handler: Any = None


def install_handler() -> None:
    """Installs the handler of SIGURG; only the main thread can do this."""
    global _previous_handler
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGURG) is not _on_signal:
        _previous_handler = signal.signal(signal.SIGURG, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _still_runs
    still_runs, _still_runs = _still_runs, None
    if still_runs is not None:
        if still_runs():
            raise Overdue
    elif callable(_previous_handler):
        _previous_handler(number, frame)


def interrupt(thread: int, still_runs: Callable[[], bool]) -> None:
    """Raises `Overdue` in the thread of a call.

    Args:
        thread: Identifier of the thread.
        still_runs: Says whether the call still runs; asked in its thread.
    """
    global _still_runs
    main = threading.main_thread().ident == thread
    if main and signal.getsignal(signal.SIGURG) is _on_signal:
        _still_runs = still_runs
        signal.pthread_kill(thread, signal.SIGURG)
    else:
        _raise_in_thread(thread, Overdue)


def forget_interrupt(thread: int) -> None:
    """Takes back an exception that has not been raised yet.

    Args:
        thread: Identifier of the thread.
    """
    if thread != threading.main_thread().ident:
        _raise_in_thread(thread, None)


def _raise_in_thread(thread: int, exception: type[BaseException] | None) -> None:
    # The exception is raised only when the thread runs Python code again.
    what = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
