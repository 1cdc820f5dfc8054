"""Piecewise linear schedules over sampled env steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Schedule = float | Sequence[Sequence[float]]


def schedule_value(schedule: Schedule, env_steps: int) -> float:
    """Evaluates a schedule.

    Args:
        schedule: A number, or points ``[[env_steps, value], ...]`` in ascending order.
            Values are linear between points and constant outside them.
        env_steps: Env steps sampled so far.

    Returns:
        The value.
    """
    if isinstance(schedule, (int, float)):
        return float(schedule)
    points = np.asarray(schedule, np.float64)
    return float(np.interp(env_steps, points[:, 0], points[:, 1]))
