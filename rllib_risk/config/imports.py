"""Imports what a user names by path, and says why it could not be imported."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from rllib_risk.config.schema import ConfigError, suggest

# A module may fail in any way while it is imported. SystemExit must not end the process
# in silence.
_FAILURES = (Exception, SystemExit)


def import_path(
    path: str,
    what: str,
    base: type | None = None,
    *,
    error: type[Exception] = ConfigError,
    dotted: bool = False,
) -> Any:
    """Imports the class or function behind ``"pkg.module:name"``.

    Args:
        path: Module and name, joined by a colon.
        what: The configuration key that the path stands under, for messages.
        base: What it must be a subclass of; None: any class or function will do.
        error: The error to raise.
        dotted: Whether ``"pkg.module.name"`` is accepted as well.

    Returns:
        The class or function.

    Raises:
        ConfigError: If the path has another form, the module is missing or fails, it
            has no such name, or the name is of the wrong kind. The message names the
            key, the path and the cause. ``error`` replaces the type.
    """
    kind = "class" if base is not None else "callable"
    module_name, colon, name = path.partition(":")
    if dotted and not colon:
        module_name, colon, name = path.rpartition(".")
    if not (module_name and colon and name):
        example = "Class" if base is not None else "name"
        raise error(
            f"{what}: {path!r} is no known name; an import path must have the form"
            f" 'pkg.module:{example}'."
        )
    module = import_module(module_name, what, of=f" of {path!r}", error=error)
    try:
        found = getattr(module, name, None)
    except _FAILURES as cause:  # a module may import its names when they are asked for
        raise error(
            f"{what}: cannot import {path!r}: {import_failure(module_name, cause)}"
        ) from cause
    if found is None:
        known = [other for other, value in vars(module).items() if _fits(value, base)]
        raise error(
            f"{what}: module '{module_name}' has no {kind} '{name}'."
            + suggest(name, known)
        )
    if not _fits(found, base):
        must = "a class or a function"
        if base is not None:
            # A package of parts exports what its module `base` defines.
            home = base.__module__.removesuffix(".base")
            must = f"a subclass of {home}.{base.__name__}"
        raise error(f"{what}: {path!r} must be {must}.")
    return found


def _fits(found: Any, base: type | None) -> bool:
    if base is None:
        return callable(found)
    return isinstance(found, type) and issubclass(found, base)


def import_module(
    name: str, what: str, *, of: str = "", error: type[Exception] = ConfigError
) -> ModuleType:
    """Imports a module that a user names.

    Args:
        name: Full name of the module.
        what: The configuration key that names it, for messages.
        of: What it is part of, for messages.
        error: The error to raise.

    Returns:
        The module.

    Raises:
        ConfigError: If the module is missing or fails. ``error`` replaces the type.
    """
    try:
        return importlib.import_module(name)
    except _FAILURES as cause:
        raise error(
            f"{what}: cannot import module '{name}'{of}: {import_failure(name, cause)}"
        ) from cause


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
