"""Remarks about a configuration for the user before a run, once per process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_told: set[str] = set()


def tell(config: Any, say: Callable[[str], None]) -> None:
    """Reports the remarks of a configuration that this process has not reported yet.

    Args:
        config: Configuration of any algorithm; one of RLlib's has no remarks.
        say: Reports one line.
    """
    for text in getattr(config, "remarks", list)():
        if text not in _told:
            _told.add(text)
            say(text)
