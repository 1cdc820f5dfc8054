"""Imports what a user names by path, and says why it could not be imported."""

from __future__ import annotations

import importlib
from typing import Any

from rllib_risk.config.schema import ConfigError


def import_object(path: str, what: str) -> Any:
    """Imports ``pkg.module:Name`` (or ``pkg.module.Name``).

    Args:
        path: The import path.
        what: What it is, for the message.

    Returns:
        The object.

    Raises:
        ConfigError: If it cannot be imported.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may fail in any way
        raise ConfigError(
            f"{what}: cannot import '{path}': {import_failure(module, error)}"
        ) from error


def import_failure(module_name: str, error: BaseException) -> str:
    """Says in one line what went wrong, and what to do if the module was not found.

    Args:
        module_name: The module that was asked for.
        error: What importing it raised; a module may fail in any way.

    Returns:
        Kind and text of the error.
    """
    # Only then is it the named module that is missing, not one that it imports.
    missing = isinstance(error, ModuleNotFoundError) and (
        f"{module_name}.".startswith(f"{error.name}.")
    )
    hint = " (is its folder on PYTHONPATH?)" if missing else ""
    return f"{type(error).__name__}: {error}{hint}"
