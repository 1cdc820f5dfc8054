"""Printing functions and exit codes of the command line."""

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

# `soft_wrap` in every print: a path or command with a line break cannot be copied.
# No emojis: Rich would replace ":100:" in a line number such as "file.yaml:100:".
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def say(text: str) -> None:
    """Prints text on stdout without interpreting markup."""
    out.print(text, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints text on stderr, so that it does not mix with results on stdout."""
    err.print(text, markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """Prints an error on stderr."""
    err.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Context manager that redirects everything printed on stdout to stderr.

    C++ code of Ray and of environments writes to the file descriptor. If stdout is a
    real file, the descriptor itself is therefore redirected too.
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
