"""Parts of a network that a user wrote, named by import path."""

from __future__ import annotations

import importlib
from typing import Any

from rllib_risk.config.imports import import_failure


def import_part(path: str, base: type, what: str) -> type[Any]:
    """The class behind ``"pkg.module:Class"``.

    Args:
        path: Module and class, joined by a colon.
        base: What the class must be a subclass of.
        what: The configuration key that the path stands under, for messages.

    Returns:
        The class.

    Raises:
        ValueError: If there is no such class, with the reason.
    """
    module_name, colon, class_name = path.partition(":")
    if not (module_name and colon and class_name):
        raise ValueError(
            f"{what}: {path!r} is no known name; an import path must have the form"
            " 'pkg.module:Class'."
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may fail in any way while it is imported
        raise ValueError(
            f"{what}: cannot import module '{module_name}' of {path!r}:"
            f" {import_failure(module_name, error)}"
        ) from error
    part = getattr(module, class_name, None)
    if part is None:
        raise ValueError(f"{what}: module '{module_name}' has no class '{class_name}'.")
    if not (isinstance(part, type) and issubclass(part, base)):
        # A package of parts exports what its module `base` defines.
        home = base.__module__.removesuffix(".base")
        raise ValueError(
            f"{what}: {path!r} must be a subclass of {home}.{base.__name__}."
        )
    return part
