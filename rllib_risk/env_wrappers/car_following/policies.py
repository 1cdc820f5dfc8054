"""Scripted policies of the env `car_following`: `safe` and `fast`.

Each car plans on its own, for a given largest speed. It looks for a constant
acceleration that brings it to the target (within a tolerance) after some steps and
never exceeds this speed. It takes the one that arrives first. If there is none, it
takes the greatest acceleration that keeps it below the speed. Both cars see and do the
same at the start, so they drive side by side.
"""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.car_following.road import (
    ACCELERATIONS,
    ARRIVED_WITHIN,
    NUM_CARS,
    STEP_S,
    TARGET,
    Road,
)
from rllib_risk.env_wrappers.scripted import ScriptedPolicy

# Steps that a plan looks ahead.
_HORIZON = 40
# Share of the tolerance that a plan may use: observations are float32.
_MARGIN = 0.9


class PlanningPolicy:
    """Drives to the target without exceeding a speed; see the module's docstring."""

    def __init__(self, max_speed: float) -> None:
        """Computes position and speed changes of all plans.

        Args:
            max_speed: Largest speed of the cars.
        """
        self._max_speed = max_speed
        time = STEP_S * np.arange(1, _HORIZON + 1)[:, None]  # [H, 1]
        self._time = time
        self._driven = 0.5 * ACCELERATIONS * time**2  # [H, A]
        self._gained = ACCELERATIONS * time  # [H, A]

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The actions; see `ScriptedPolicy.act`. Neither mask nor rng is needed."""
        own = np.arange(NUM_CARS)
        position = obs[:, own, 2 * own].astype(np.float64)[..., None, None]
        speed = obs[:, own, 2 * own + 1].astype(np.float64)[..., None, None]
        ends = position + speed * self._time + self._driven  # [E, N, H, A]
        fits = np.abs(ends - TARGET) < _MARGIN * ARRIVED_WITHIN
        fits &= speed + self._gained <= self._max_speed
        fits &= speed + self._gained >= -self._max_speed
        # first the shortest plan, then the least acceleration
        plans = fits.reshape(*fits.shape[:2], -1)
        planned = plans.argmax(axis=-1) % len(ACCELERATIONS)
        after = speed[..., 0] + STEP_S * ACCELERATIONS  # [E, N, A]
        allowed = (after <= self._max_speed).sum(axis=-1) - 1
        return np.where(plans.any(axis=-1), planned, np.maximum(allowed, 0))


def scripted_policies(road: Road) -> dict[str, ScriptedPolicy]:
    """The reference policies of a game, by name.

    Args:
        road: Rules and constants of the game.

    Returns:
        `safe`, which stays within the speed limit, and `fast`, which uses the top
        speed.
    """
    limit = min(road.speed_limit, road.top_speed)
    return {"safe": PlanningPolicy(limit), "fast": PlanningPolicy(road.top_speed)}
