"""The vectorised twin of the env `uav`: many copies in one call.

It gives the same numbers as `UAV` through `TeamEnv`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    slots_where,
    state_size_of,
)
from rllib_risk.env_wrappers.uav.env import UAV
from rllib_risk.env_wrappers.uav.totals import Totals, step_info


class BatchedUAV(BatchedTeamEnv):
    """E copies of `UAV` under the team contract.

    Attributes:
        world: Map and constants, the same for all copies.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        state: str = "auto",
        time_limit_is_terminal: bool = False,
        **env_config: Any,
    ) -> None:
        """Allocates the arrays.

        Args:
            num_envs: Number of copies E.
            state: "auto", "env", "concat_obs" or "none"; as in `TeamEnv`.
            time_limit_is_terminal: As in `TeamEnv`.
            **env_config: Arguments of `UAV`, which checks them.

        Raises:
            EnvConfigError: If an argument is wrong.
        """
        env = self._env = UAV(**env_config)
        self.world = env.world
        agents = tuple(env.possible_agents)
        obs_size = env.observation_space(agents[0]).shape[0]
        whole = env.state_space.shape[0]
        size = state_size_of(
            state, time_limit_is_terminal, whole, len(agents) * obs_size
        )
        super().__init__(
            num_envs,
            TeamSpec(agents, self.world.num_actions, obs_size, size, env.episode_limit),
        )
        self._state_source = state
        self._time_limit_is_terminal = time_limit_is_terminal
        self._limit = env.episode_limit
        u, m = self.world.num_uavs, self.world.num_devices
        self._cells = np.zeros((num_envs, u, 2), np.int64)
        self._ages = np.ones((num_envs, m), np.int64)
        rng = np.random.default_rng(0)
        self._uniforms = np.zeros(
            (num_envs, *self.world.draw_start(rng).uniforms.shape)
        )
        self._steps = np.zeros(num_envs, np.int64)
        self._totals = Totals(self.world, num_envs)
        self._slots = np.arange(num_envs)
        self._write()

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            start = self.world.draw_start(np.random.default_rng(seed))
            self._cells[slot] = start.cells
            self._uniforms[slot] = start.uniforms
        self._ages[slots] = self.world.initial_age
        self._steps[slots] = 0
        self._totals.clear(slots)
        self._write()

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        everywhere = bool(active.all())
        cells, ages = self._cells.copy(), self._ages.copy()
        # Idle slots may be past the last row; their results are dropped below.
        row = np.minimum(self._steps, self._limit - 1)
        uniforms = self._uniforms[self._slots, row] if self._uniforms.shape[1] else None
        chosen = actions if everywhere else np.where(active[:, None], actions, 0)
        outcome = self.world.step(cells, ages, chosen, uniforms)
        train, report = self.world.rewards(outcome)
        rewards = train if self._env.reward_aggregation == "sum" else report
        if everywhere:
            self._cells, self._ages = cells, ages
            self._totals.add(outcome)
        else:
            self._cells[active], self._ages[active] = cells[active], ages[active]
            self._totals.add(outcome, active)
            rewards = rewards * active
        self._steps += active
        truncateds = (self._steps >= self._limit) & active
        terminateds = np.zeros(self.num_envs, bool)
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        for slot in slots_where(truncateds):
            infos[slot] = {
                **step_info(self.world, outcome, slot),
                **self._totals.of_episode(slot),
                "episode_limit": True,
            }
        if self._time_limit_is_terminal:
            terminateds, truncateds = truncateds, terminateds
        self._write()
        return BatchedStep(rewards.astype(np.float32), terminateds, truncateds, infos)

    def _write(self) -> None:
        """Writes observations and states of all slots."""
        e, u = self._cells.shape[:2]
        whole = np.concatenate([self._cells.reshape(e, -1), self._ages], axis=1)
        if self._env.normalise:
            whole = self._env.scaled(whole)
        if self._env.local_obs:
            self.obs[:, :, :2] = whole[:, : 2 * u].reshape(e, u, 2)
            self.obs[:, :, 2:] = whole[:, None, 2 * u :]
        else:
            self.obs[:] = whole[:, None]
        if self._state_source == "concat_obs":
            self.state[:] = self.obs.reshape(e, -1)
        elif self._state_source != "none":
            self.state[:] = whole
