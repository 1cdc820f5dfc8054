"""Handles SIGTERM like Ctrl-C, but with another exit code.

Slurm, Docker and Kubernetes send SIGTERM before they kill a job. ``interrupt.py``
handles it during a training run. Every other command ends with ``KeyboardInterrupt``.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from rllib_risk.cli.output import EXIT_INTERRUPTED, EXIT_TERMINATED

_terminated = False


def end_on_sigterm() -> None:
    """Makes SIGTERM raise ``KeyboardInterrupt`` in the main thread."""
    signal.signal(signal.SIGTERM, on_sigterm)


def on_sigterm(number: int, frame: FrameType | None) -> None:
    """Raises ``KeyboardInterrupt``; a second call ends the process at once."""
    global _terminated
    if _terminated:
        # Ray's processes end when this process ends.
        os._exit(EXIT_TERMINATED)
    _terminated = True
    raise KeyboardInterrupt


def interrupt_code() -> int:
    """Returns the exit code for a ``KeyboardInterrupt``: 130, or 143 for SIGTERM."""
    return EXIT_TERMINATED if _terminated else EXIT_INTERRUPTED


@contextlib.contextmanager
def sigterm_held_back() -> Iterator[None]:
    """Context manager that delays SIGTERM while Ray starts, and keeps its handler.

    Ray installs its own handler, which ends the process without a checkpoint. An
    exception during ``ray.init`` would leave processes behind. A signal that arrives
    during the start is therefore handled after it.

    Yields:
        Nothing.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler):
        # The process has no handler to keep, so Ray may install its own.
        yield
        return
    install = signal.signal
    came = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came:
            os._exit(EXIT_TERMINATED)
        came = True

    def install_others(number: int, wanted: Any) -> Any:
        return remember if number == signal.SIGTERM else install(number, wanted)

    install(signal.SIGTERM, remember)
    signal.signal = install_others  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install
        install(signal.SIGTERM, handler)
    if came:
        handler(signal.SIGTERM, None)
