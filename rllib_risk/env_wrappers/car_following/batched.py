"""The vectorised twin of the env `car_following`: many copies in one call."""

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
from rllib_risk.env_wrappers.car_following.env import (
    AGENTS,
    CarFollowing,
    Totals,
    draw_uniforms,
)
from rllib_risk.env_wrappers.car_following.road import NUM_ACTIONS, Cars, Outcome


class BatchedCarFollowing(BatchedTeamEnv):
    """E copies of `CarFollowing` under the team contract."""

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
            time_limit_is_terminal: As in `TeamEnv`; no effect, since all episodes
                terminate.
            **env_config: Arguments of `CarFollowing`, which checks them.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        env = CarFollowing(**env_config)
        own = int(env.state_space.shape[0])
        size = state_size_of(state, time_limit_is_terminal, own, len(AGENTS) * own)
        super().__init__(
            num_envs, TeamSpec(AGENTS, NUM_ACTIONS, own, size, env.episode_limit)
        )
        self._state_source = state
        self._road, self._limit = env.road, env.episode_limit
        self._cars = Cars.at_start(num_envs)
        self._uniforms = np.zeros((num_envs, self._limit, len(AGENTS)))
        self._steps = np.zeros(num_envs, np.int64)
        self._totals = Totals(num_envs)
        self._slots = np.arange(num_envs)
        self._write()

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
            self._uniforms[slot] = draw_uniforms(
                np.random.default_rng(seed), self._limit
            )
        self._cars.positions[slots] = 0.0
        self._cars.speeds[slots] = 0.0
        self._cars.arrived[slots] = False
        self._steps[slots] = 0
        self._totals.clear(slots)
        self._write()

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        before = self._cars
        # Idle slots may be past the last row; their results are dropped below.
        uniforms = self._uniforms[self._slots, np.minimum(self._steps, self._limit - 1)]
        chosen = np.where(active[:, None], actions, 0)
        cars, outcome = self._road.step(before, chosen, uniforms)
        if not active.all():
            moves = active[:, None]
            cars = Cars(
                np.where(moves, cars.positions, before.positions),
                np.where(moves, cars.speeds, before.speeds),
                np.where(moves, cars.arrived, before.arrived),
            )
            outcome = Outcome(
                outcome.rewards * active,
                outcome.crashes * active,
                outcome.speeding * active,
                outcome.together & active,
            )
        self._cars = cars
        self._totals.add(outcome)
        self._steps += active
        ended = outcome.together | ((self._steps >= self._limit) & active)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for slot in slots_where(ended):
            infos[slot] = self._totals.of_episode(cars, slot)
        self._write()
        rewards = outcome.rewards.astype(np.float32)
        return BatchedStep(rewards, ended, np.zeros_like(ended), infos)

    def _write(self) -> None:
        """Writes observations and states of all slots."""
        self.obs[:] = self._road.views(self._cars)
        if self._state_source == "concat_obs":
            self.state[:] = self.obs.reshape(self.num_envs, -1)
        elif self._state_source != "none":
            self.state[:] = self._road.states(self._cars)
