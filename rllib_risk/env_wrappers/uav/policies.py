"""Reference lines of the env `uav`: doing nothing, and two greedy rules.

The greedy rule looks one step ahead, one UAV after the other: over all moves and
devices, it takes the greatest

    age_weight * (age - 1) / M - power_weight * power,

where the age is what it would be after this step, and a device that an earlier UAV
polls is fresh. `greedy` never lands in the risk region if it can stay out; `risk_blind`
does not know of it. So the one is near what can be had, and the other fills a data set
with what happens in the region.
"""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.env_wrappers.uav.env import UAV
from rllib_risk.env_wrappers.uav.world import MOVES

# How much of the power's price one step of the mean age is worth: a device that is
# polled now is fresh in the steps to come as well.
AGE_WEIGHT = 6.0


class IdlePolicy:
    """Stays and polls no device."""

    def __init__(self, env: UAV) -> None:
        """Reads the number of the action."""
        self._action = len(MOVES) * env.world.num_devices

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The actions; see `ScriptedPolicy.act`."""
        return np.full(obs.shape[:2], self._action)


class GreedyPolicy:
    """Polls where it pays most at once; see the module."""

    def __init__(self, env: UAV, *, avoid_risk: bool) -> None:
        """Prepares the tables.

        Args:
            env: The env that it is for; observations are read as it shows them.
            avoid_risk: Whether it keeps out of the risk region.
        """
        self._world = world = env.world
        self._normalise = env.normalise
        self._local = env.local_obs
        size = world.grid_size
        x, y = np.divmod(np.arange(size * size), size)
        cells = np.stack([x, y], axis=1).reshape(size, size, 1, 2)
        landing = (cells + world.move_cells * MOVES).clip(0, size - 1)  # [G, G, 5, 2]
        landing_x, landing_y = landing[..., 0], landing[..., 1]
        cost = world.power_weight * world.power_w[landing_x, landing_y][..., :-1]
        if avoid_risk:
            # More than any age or power is worth, but the same in all cells, so that a
            # UAV with nowhere else to go still does its work.
            most = AGE_WEIGHT * world.max_age + cost.max()
            cost = cost + most * world.risk[landing_x, landing_y][..., None]
        self._cost = cost  # [G, G, 5, M]

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The actions; see `ScriptedPolicy.act`. Neither mask nor rng is needed."""
        world = self._world
        e, u, m = len(obs), world.num_uavs, world.num_devices
        cells, ages = self._read(obs)
        ages = np.minimum(ages + 1, world.max_age)
        actions = np.zeros((e, u), np.int64)
        for uav in range(u):
            gain = AGE_WEIGHT * (ages - 1) / m  # [E, M]
            x, y = cells[:, uav, 0], cells[:, uav, 1]
            worth = gain[:, None] - self._cost[x, y]  # [E, 5, M]
            move, device = np.divmod(worth.reshape(e, -1).argmax(axis=1), m)
            ages[np.arange(e), device] = 1
            actions[:, uav] = len(MOVES) * device + move
        return actions

    def _read(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cells [E, U, 2] and ages [E, M] from observations [E, U, D]."""
        world = self._world
        if self._local:
            cells, ages = obs[:, :, :2], obs[:, 0, 2:]
        else:
            places = 2 * world.num_uavs
            cells = obs[:, 0, :places].reshape(len(obs), -1, 2)
            ages = obs[:, 0, places:]
        if self._normalise:
            cells = cells * max(world.grid_size - 1, 1)
            ages = ages * world.max_age
        # Copies: a rule that reads must not write.
        return np.rint(cells).astype(np.int64), np.rint(ages).astype(np.int64)


def scripted_policies(env: UAV) -> dict[str, ScriptedPolicy]:
    """The reference lines of an env, by name."""
    return {
        "idle": IdlePolicy(env),
        "greedy": GreedyPolicy(env, avoid_risk=True),
        "risk_blind": GreedyPolicy(env, avoid_risk=False),
    }
