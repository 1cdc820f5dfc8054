"""Imports classes, functions and modules that a user names, with clear errors."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from rllib_risk.config.schema import ConfigError, suggest

# An import may raise anything. SystemExit must not end the process silently.
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
        what: Configuration key of the path, for messages.
        base: Required base class; None: any class or function.
        error: Type of the error to raise.
        dotted: Whether ``"pkg.module.name"`` is accepted as well.

    Returns:
        The class or function.

    Raises:
        ConfigError: If the path has another form, the module is missing or fails, the
            name is missing, or it is of the wrong kind. The message names the key, the
            path and the cause. ``error`` replaces the type.
    """
    kind = "class" if base is not None else "callable"
    module_name, colon, name = path.partition(":")
    if dotted and not colon:
        module_name, colon, name = path.rpartition(".")
    if not (module_name and colon and name):
        example = "Class" if base is not None else "name"
        raise error(
            f"{what}: {path!r} is not a known name. An import path must have the form"
            f" 'pkg.module:{example}'."
        )
    module = import_module(module_name, what, of=f" of {path!r}", error=error)
    try:
        found = getattr(module, name, None)
    except _FAILURES as cause:  # a module may import its names lazily
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
            # Users import the base class from the package, not from its module `base`.
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
        what: Configuration key that names the module, for messages.
        of: Words that follow the name in messages, such as `` of 'pkg.module:name'``.
        error: Type of the error to raise.

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
    """Describes a failed import in one line, with a hint if the module is missing.

    Args:
        module_name: Name of the module.
        error: The exception that the import raised.

    Returns:
        Type and text of the error.
    """
    # The named module (or a package of it) is missing, not a module that it imports.
    missing = isinstance(error, ModuleNotFoundError) and (
        f"{module_name}.".startswith(f"{error.name}.")
    )
    hint = " (is its folder on PYTHONPATH?)" if missing else ""
    return f"{type(error).__name__}: {error}{hint}"
