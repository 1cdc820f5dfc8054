"""The vectorised twin of the env `hvac`: many copies in one call.

It gives the same numbers as `HVAC` through `TeamEnv`. One matrix product steps all
buildings, and one table holds the weather of all cities.
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
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac.data import load_building
from rllib_risk.env_wrappers.hvac.dynamics import NUM_SHARED, BatchedDynamics
from rllib_risk.env_wrappers.hvac.env import HVAC, normalised
from rllib_risk.env_wrappers.hvac.scenario import (
    EpisodeStart,
    check_day,
    draw_start,
    end_of_episode_info,
)


class BatchedHVAC(BatchedTeamEnv):
    """E copies of `HVAC` under the team contract.

    Attributes:
        scenario: Building, cities and days; the same for all copies.
        levels: Power of every action, float32 [bins].
    """

    def __init__(
        self,
        num_envs: int,
        *,
        state: str = "auto",
        time_limit_is_terminal: bool = False,
        **env_config: Any,
    ) -> None:
        """Builds the tables.

        Args:
            num_envs: Number of copies E.
            state: "auto", "env", "concat_obs" or "none"; as in `TeamEnv`.
            time_limit_is_terminal: As in `TeamEnv`.
            **env_config: Arguments of `HVAC`, which checks them.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        env = HVAC(**env_config)
        if env.backend != "native":
            raise EnvConfigError(
                f"backend '{env.backend}' has no vectorised form: use HVAC.batched()"
            )
        n, obs_size = len(env.possible_agents), 1 + NUM_SHARED
        size = state_size_of(
            state, time_limit_is_terminal, n + NUM_SHARED, n * obs_size
        )
        agents = tuple(env.possible_agents)
        limit = self._limit = env.episode_limit
        super().__init__(
            num_envs, TeamSpec(agents, len(env.levels), obs_size, size, limit)
        )
        self.scenario = env.scenario
        self.levels = env.levels
        self._state_source = state
        self._time_limit_is_terminal = time_limit_is_terminal
        self._normalise = env.normalise
        self._dynamics = BatchedDynamics(
            num_envs,
            load_building(self.scenario.building),
            self.scenario.cities,
            power_scale=self.scenario.power_scale,
            solar_scale=self.scenario.solar_scale,
            ground_scale=self.scenario.ground_scale,
            target=env.target,
        )
        self._starts = [EpisodeStart(0, 0, np.zeros((0, n), np.float32))] * num_envs
        self._steps = np.zeros(num_envs, np.int64)
        # comfort cost, energy cost, mean absolute deviation
        self._totals = np.zeros((num_envs, 3))
        rows = limit + 1 if self.scenario.sensor_sigma > 0 else 0
        self._noise = np.zeros((num_envs, rows, n), np.float32)
        self._slots = np.arange(num_envs)

    def reset(
        self, slots: np.ndarray, seeds: np.ndarray, days: np.ndarray | None = None
    ) -> None:
        """Starts a new day in some slots; see the base class.

        Args:
            slots: Distinct slot indices, integers [k].
            seeds: Seed of each new episode, integers [k].
            days: Days to play, integers [k], as in reset(options={"day": d}) of `HVAC`;
                None: they are drawn.

        Raises:
            EnvConfigError: If a day does not exist.
        """
        n, limit = self.spec.num_agents, self._limit
        for index, (slot, seed) in enumerate(
            zip(slots.tolist(), seeds.tolist(), strict=True)
        ):
            start = draw_start(np.random.default_rng(seed), self.scenario, limit, n)
            if days is not None:
                start = start._replace(day=check_day(days[index]))
            self._noise[slot] = start.noise
            self._starts[slot] = start._replace(noise=start.noise[:0])
        starts = [self._starts[slot] for slot in slots.tolist()]
        self._dynamics.reset(
            slots,
            np.array([start.city for start in starts], np.int64),
            np.array([start.day for start in starts], np.int64),
        )
        self._steps[slots] = 0
        self._totals[slots] = 0.0
        self._write(slots)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        dynamics = self._dynamics
        everywhere = bool(active.all())
        dynamics.step(np.take(self.levels, actions), None if everywhere else active)
        rewards = -(dynamics.comfort_cost + dynamics.energy_cost)
        parts = np.stack(
            [
                dynamics.comfort_cost,
                dynamics.energy_cost,
                dynamics.mean_abs_deviation,
            ],
            axis=1,
        )
        if not everywhere:
            rewards *= active
            parts *= active[:, None]
        self._totals += parts
        self._steps += active
        truncateds = (self._steps >= self._limit) & active
        terminateds = np.zeros(self.num_envs, bool)
        # All slots share one empty dict: thousands of new dicts would take a fifth of a
        # step. A slot whose episode ends gets its own dict.
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        for slot in slots_where(truncateds):
            infos[slot] = end_of_episode_info(
                self._totals[slot],
                int(self._steps[slot]),
                self._starts[slot],
                self.scenario,
            )
            infos[slot]["episode_limit"] = True
        if self._time_limit_is_terminal:
            terminateds, truncateds = truncateds, terminateds
        self._write(slice(None) if everywhere else np.flatnonzero(active))
        return BatchedStep(rewards.astype(np.float32), terminateds, truncateds, infos)

    def _write(self, slots: np.ndarray | slice) -> None:
        """Writes observations and states of some slots."""
        n = self.spec.num_agents
        temperatures = self._dynamics.temperatures[slots]  # [k, n]
        shared = self._dynamics.shared[slots].astype(np.float32)  # [k, 4]
        own = temperatures
        if self.scenario.sensor_sigma > 0:
            own = own + self._noise[self._slots[slots], self._steps[slots]]
        if self._normalise:
            own, temperatures = normalised(own), normalised(temperatures)
            shared[:, :2] = normalised(shared[:, :2])
        self.obs[slots, :, 0] = own
        for feature in range(NUM_SHARED):  # twice as fast as one assignment for all
            self.obs[slots, :, 1 + feature] = shared[:, feature, None]
        if self._state_source == "concat_obs":
            self.state[slots] = self.obs[slots].reshape(-1, self.spec.state_size)
        elif self._state_source != "none":
            self.state[slots, :n] = temperatures
            self.state[slots, n:] = shared
