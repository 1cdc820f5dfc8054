"""What the command prints, and how it fails."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

# `soft_wrap` on every print: a path or a command that is cut by a line break cannot be
# copied.
# No emojis: ":100:" is a line of a file.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """Prints a line on stdout as it is."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints a line on stderr, for what must not mix with results."""
    err.print(text, markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """Prints an error on stderr."""
    err.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends everything that other code prints to stderr.

    Ray's and an environment's C++ parts write to the file descriptor itself, so it is
    the descriptor that is redirected where stdout is a real file.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            number = sys.__stdout__.fileno() if sys.__stdout__ else None
        except (OSError, ValueError):
            number = None
        if number is None:
            yield
            return
        saved = os.dup(number)
        try:
            os.dup2(2, number)
            yield
        finally:
            os.dup2(saved, number)
            os.close(saved)
