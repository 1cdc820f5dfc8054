"""Reference policies of the env `uav`: idle, greedy, and greedy without regard to risk.

The greedy rule looks one step ahead, for one UAV after the other. It takes the move and
the device with the greatest

    age_weight * (age - 1) / M - power_weight * power,

where the age is the one after this step without a poll. A device that an earlier UAV
polls has age 1. `greedy` lands in the risk region only if it cannot avoid it;
`risk_blind` ignores the region. So `greedy` shows a return that is nearly the best, and
`risk_blind` fills a dataset with steps in the region.
"""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.scripted import ScriptedPolicy
from rllib_risk.env_wrappers.uav.env import UAV
from rllib_risk.env_wrappers.uav.world import MOVES

# Weight of the mean age against the cost of power. It is above 1 because a device that
# is polled now has a lower age in the next steps too.
AGE_WEIGHT = 6.0


class IdlePolicy:
    """Stays and polls no device."""

    def __init__(self, env: UAV) -> None:
        """Computes the number of the action for this env."""
        self._action = len(MOVES) * env.world.num_devices

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The actions; see `ScriptedPolicy.act`."""
        return np.full(obs.shape[:2], self._action)


class GreedyPolicy:
    """Takes the best move and device for the next step; see the module's docstring."""

    def __init__(self, env: UAV, *, avoid_risk: bool) -> None:
        """Prepares the tables.

        Args:
            env: The env to act in; it decides the form of the observations.
            avoid_risk: Whether the policy stays out of the risk region.
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
            # This penalty exceeds all differences in age and power. It is equal in all
            # cells of the region, so that a UAV that cannot leave still chooses well.
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
        # rint() and astype() copy, so act() does not change the observations.
        return np.rint(cells).astype(np.int64), np.rint(ages).astype(np.int64)


def scripted_policies(env: UAV) -> dict[str, ScriptedPolicy]:
    """The reference policies of an env, by name."""
    return {
        "idle": IdlePolicy(env),
        "greedy": GreedyPolicy(env, avoid_risk=True),
        "risk_blind": GreedyPolicy(env, avoid_risk=False),
    }
