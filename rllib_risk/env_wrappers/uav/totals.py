"""Infos of the env `uav`: the numbers of a step, and the totals of an episode."""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.uav.world import Outcome, World


def step_info(world: World, outcome: Outcome, slot: int) -> dict[str, float]:
    """The info of one step; see `UAV`.

    Args:
        world: The world.
        outcome: Outcome of the step.
        slot: Index of the copy.

    Returns:
        The info.
    """
    age, power, in_risk, hits = (float(part[slot]) for part in outcome)
    train, report = (float(reward[slot]) for reward in world.rewards(outcome))
    return {
        "aoi_mean": age,
        "power_w": power,
        "weighted_power": world.power_weight * power,
        "in_risk": in_risk,
        "risk_hit": hits,
        "reward_train": train,
        "reward_report": report,
    }


class Totals:
    """Sums over the episodes of E copies, for the infos at their ends."""

    def __init__(self, world: World, num_envs: int) -> None:
        """Starts all sums at zero."""
        self._world = world
        # mean age, power, UAVs in the region, hits, reward, reported reward, steps
        self._sums = np.zeros((num_envs, 7))

    def clear(self, slots: np.ndarray) -> None:
        """Sets the sums of some slots to zero."""
        self._sums[slots] = 0.0

    def add(self, outcome: Outcome, active: np.ndarray | None = None) -> None:
        """Adds a step.

        Args:
            outcome: Outcome of the step.
            active: Copies that made the step, bool [E]; None: all.
        """
        parts = (*outcome, *self._world.rewards(outcome), np.ones_like(outcome.power_w))
        sums = np.stack([np.asarray(p, np.float64) for p in parts], axis=1)
        self._sums += sums if active is None else sums * active[:, None]

    def of_episode(self, slot: int) -> dict[str, float]:
        """The part of the last info that covers the whole episode; see `UAV`."""
        age, power, in_risk, hits, train, report, steps = self._sums[slot].tolist()
        return {
            "return_train": train,
            "return_report": report,
            "mean_age": age / steps,
            "mean_weighted_power": self._world.power_weight * power / steps,
            "risk_step_fraction": in_risk / (steps * self._world.num_uavs),
            "entered_risk": float(in_risk > 0),
            "num_risk_hits": hits,
        }
