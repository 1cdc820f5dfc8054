"""What a user should read about a configuration before a run, once per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_told: set[str] = set()


def tell(config: Any, say: Callable[[str], None]) -> None:
    """Says what a configuration remarks, unless this process has said it before.

    Args:
        config: Any algorithm's configuration; those of this package have ``remarks``.
        say: Takes a line.
    """
    for text in getattr(config, "remarks", list)():
        if text not in _told:
            _told.add(text)
            say(text)
