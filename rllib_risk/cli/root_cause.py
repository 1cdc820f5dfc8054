"""Extracts the exception from the end of a traceback."""

from __future__ import annotations

import re

_MAX_LINES = 5
_LONGEST_LINE = 500
_FRAME = re.compile(r"\s+File \"")
# The first line of an exception: its class, then perhaps a message.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(\(\w+\))?(:|$)")


def root_cause(text: str) -> str:
    """Returns the exception at the end of a traceback, in a few lines.

    Args:
        text: Contents of Tune's ``error.txt``, or the text of an exception.

    Returns:
        The exception, for example ``ValueError: no such level``.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "unknown cause"
    frames = [n for n, line in enumerate(lines) if _FRAME.match(line)]
    begin = frames[-1] + 1 if frames else 0
    # The last frame is followed by its code, indented, and then by the exception.
    first = next(
        (n for n in range(begin, len(lines)) if not lines[n][0].isspace()), None
    )
    if first is None or not frames:
        found = [n for n, line in enumerate(lines) if _EXCEPTION.match(line)]
        first = (found[0] if not frames else found[-1]) if found else len(lines) - 1
    shown = [
        line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}..."
        for line in lines[first : first + _MAX_LINES]
    ]
    return "\n  ".join(shown)
