"""Warnings about a running env, such as the cause of a crash; each is logged once.

Each notice is logged once per process. A runner also passes its new notices to the
algorithm, because the log of a remote process is hidden by default.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

logger = logging.getLogger(__name__)

_told: set[str] = set()
_new: dict[str, str] = {}
_captured: dict[str, str] | None = None


def tell(key: str, text: str, error: BaseException | None = None) -> None:
    """Logs a notice, unless one with the same key was logged before.

    Args:
        key: Notices with equal keys count as the same.
        text: The notice, one line.
        error: The exception that caused it; its traceback is logged at level INFO.
    """
    if _captured is not None:
        _captured.setdefault(key, text)
        return
    if key in _told:
        return
    _told.add(key)
    _new[key] = text
    details = error if logger.isEnabledFor(logging.INFO) else None
    logger.warning(text, exc_info=details)


@contextlib.contextmanager
def captured() -> Iterator[dict[str, str]]:
    """Collects the notices of a block, even those logged before; does not log them.

    Yields:
        The notices by key; empty at first.
    """
    global _captured
    before, _captured = _captured, {}
    try:
        yield _captured
    finally:
        _captured = before


def take_new() -> dict[str, str]:
    """Returns the notices since the last call, by key."""
    new = dict(_new)
    _new.clear()
    return new


def forget() -> None:
    """Forgets which notices were logged, for a new run in the same process."""
    _told.clear()
    _new.clear()
