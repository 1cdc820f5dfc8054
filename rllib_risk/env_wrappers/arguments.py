"""Checks of the arguments of envs."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError


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
