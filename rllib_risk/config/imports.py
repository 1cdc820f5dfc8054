"""Why a module that a user named could not be imported."""

from __future__ import annotations


def import_failure(module_name: str, error: Exception) -> str:
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
