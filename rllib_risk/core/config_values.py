"""Compares values of configurations, and checks schedules."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping
from typing import Any

from ray.rllib.policy.policy import PolicySpec

from rllib_risk.config.schema import ConfigError, Field


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a configuration are equal, search spaces included.

    Args:
        one: A value.
        other: A value.

    Returns:
        Whether all nested values are equal. Objects without ``__eq__`` are compared by
        their attributes.
    """
    # RLlib has two forms of a policy's specification.
    one, other = map(_plain, (one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            same_value(one[key], other[key]) for key in one
        )
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_value, one, other))
    if type(one) is not type(other):
        return bool(one == other)
    # Tune's search spaces and their samplers do not define __eq__.
    if _has_parts(one):
        return same_value(vars(one), vars(other))
    return bool(one == other)


def _has_parts(value: Any) -> bool:
    """Whether a value is an instance with attributes and without ``__eq__``."""
    equality: Any = type(value).__eq__
    named = inspect.isclass(value) or inspect.isroutine(value)
    return equality is object.__eq__ and not named and hasattr(value, "__dict__")


def _plain(value: Any) -> Any:
    return value.get_state() if isinstance(value, PolicySpec) else value


def check_schedule(key: str, points: list, field: Field) -> None:
    """Checks a schedule of a key's values.

    Args:
        key: Name of the key, for the message.
        points: ``[[env_steps, value], ...]``.
        field: Declaration of the key, with the range of the values.

    Raises:
        ConfigError: If steps do not ascend or a value is out of range.
    """
    try:
        steps = [float(step) for step, _ in points]
        values = [float(value) for _, value in points]
    except (TypeError, ValueError):
        steps, values = [], []
    ordered = all(a < b for a, b in itertools.pairwise(steps))
    ordered = ordered and all(map(math.isfinite, steps))
    if not steps or not ordered or not all(map(field.within, values)):
        bounds = field.interval
        raise ConfigError(
            f"{key}: must be a number in {bounds} or points [[env_steps, value], ...]"
            f" in ascending order with values in {bounds}, not {points!r}."
        )
