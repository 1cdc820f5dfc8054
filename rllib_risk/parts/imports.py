"""Parts of a network that a user wrote, named by import path."""

from __future__ import annotations

from typing import Any

from rllib_risk.config.imports import import_path


def import_part(path: str, base: type, what: str) -> type[Any]:
    """The class behind ``"pkg.module:Class"``; see :func:`import_path`.

    Args:
        path: Module and class, joined by a colon.
        base: What the class must be a subclass of.
        what: The configuration key that the path stands under, for messages.

    Returns:
        The class.
    """
    part: type[Any] = import_path(path, what, base)
    return part
