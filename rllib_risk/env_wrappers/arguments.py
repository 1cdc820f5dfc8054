"""Checks of the envs' arguments and actions."""

from __future__ import annotations

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
