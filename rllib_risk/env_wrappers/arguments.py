"""Checks of the arguments, packages and actions of envs."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError, IllegalActionError


def number(key: str, value: Any) -> float:
    """`value` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EnvConfigError(f"{key} must be a number, not {value!r}")
    if not np.isfinite(value):
        raise EnvConfigError(f"{key} must be finite, not {value!r}")
    return float(value)


def positive(key: str, value: Any) -> int:
    """`value` as a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise EnvConfigError(f"{key} must be a positive integer, not {value!r}")
    return value


def spread(key: str, value: Any) -> float:
    """`value` as a standard deviation, a finite number of at least 0."""
    std = number(key, value)
    if std < 0:
        raise EnvConfigError(f"{key} must be at least 0, not {value!r}")
    return std


def check_legal(agent: Any, action: int, legal: np.ndarray) -> None:
    """Raises an IllegalActionError if a mask [A] forbids the action of an agent."""
    if not (0 <= action < legal.size and legal[action]):
        raise IllegalActionError(
            f"agent '{agent}': action {action} is not legal. Legal actions:"
            f" {np.flatnonzero(legal).tolist()}"
        )


def check_arguments(
    factory: Callable[..., Any],
    kwargs: Mapping[str, Any],
    where: str,
    also_known: Iterable[str] = (),
) -> None:
    """Refuses arguments that a factory does not take.

    Args:
        factory: A function or a class.
        kwargs: Keyword arguments for it.
        where: Configuration key that holds them, such as `env_config`.
        also_known: Further names for the suggestion of an error.

    Raises:
        EnvConfigError: If the factory does not take one of the arguments.
    """
    named = argument_names(factory)
    if named is None:
        return
    for key in kwargs:
        if key not in named:
            raise EnvConfigError(
                f"unknown key {where}.{key}{suggestion(key, (*named, *also_known))}"
            )


def argument_names(factory: Callable[..., Any]) -> list[str] | None:
    """The names of a factory's keyword arguments; None if any name may be given."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except ValueError:
        return None  # a built-in callable without a signature
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY]


def suggestion(word: str, known: Iterable[Any]) -> str:
    """Text ": did you mean ...?" if a known word is similar, else the known words."""
    words = [str(other) for other in known]
    close = difflib.get_close_matches(str(word), words, n=1)
    if close:
        return f": did you mean '{close[0]}'?"
    return f": known are {', '.join(words)}"


def check_package(env: str, module: str, extra: str) -> None:
    """Refuses an env whose package is missing, without importing it.

    Args:
        env: Name of the env.
        module: Name of the module that the env imports.
        extra: Extra of this package that installs the module.

    Raises:
        EnvConfigError: If the module is missing; the text says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise EnvConfigError(
            f"env '{env}' needs the package {module}, which is not installed. Run\n"
            f"  pip install 'rllib-risk[{extra}]'"
        )
