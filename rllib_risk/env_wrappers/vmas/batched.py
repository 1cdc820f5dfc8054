"""The vectorised twin of the env `vmas`: many copies in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.arguments import positive
from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    slots_where,
    state_size_of,
)
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.parallel_env import merge_infos
from rllib_risk.env_wrappers.team_reward import (
    TEAM_REWARDS,
    check_choice,
    team_rewards,
)
from rllib_risk.env_wrappers.vmas.core import VmasCore, numbers_of_copy
from rllib_risk.env_wrappers.vmas.env import checked_kwargs


class BatchedVMAS(BatchedTeamEnv):
    """E copies of `VMAS` under the team contract.

    The seed of an episode decides its start. Random numbers of later steps come from
    one stream for all copies, so they depend on the number of copies.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        scenario: str = "balance",
        episode_limit: int = 100,
        kwargs: Mapping[str, Any] | None = None,
        state: str = "auto",
        time_limit_is_terminal: bool = False,
        team_reward: str = "mean",
    ) -> None:
        """Makes the copies.

        Args:
            num_envs: Number of copies E.
            scenario: As in `VMAS`.
            episode_limit: As in `VMAS`.
            kwargs: As in `VMAS`.
            state: "auto", "concat_obs" or "none"; as in `TeamEnv`.
            time_limit_is_terminal: As in `TeamEnv`.
            team_reward: As in `TeamEnv`.

        Raises:
            EnvConfigError: If an argument is wrong.
        """
        check_choice("team_reward", team_reward, TEAM_REWARDS)
        limit = positive("env_config.episode_limit", episode_limit)
        if state == "env":
            raise EnvConfigError(
                "env_config.state asks for the env's own state, and VMAS has none: set"
                " env_config.state to concat_obs or none"
            )
        core = self._core = VmasCore(scenario, num_envs, limit, checked_kwargs(kwargs))
        agents, size = tuple(core.agents), max(core.obs_sizes)
        state_size = state_size_of(state, time_limit_is_terminal, 0, len(agents) * size)
        super().__init__(
            num_envs, TeamSpec(agents, max(core.num_actions), size, state_size, limit)
        )
        self._team_reward = team_reward
        self._time_limit_is_terminal = time_limit_is_terminal
        self._running = np.zeros(num_envs, bool)
        self.pads_observations = len(set(core.obs_sizes)) > 1
        for agent, available in enumerate(core.num_actions):
            self.action_mask[:, agent, available:] = 0

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        obs = self._core.reset(slots.tolist(), seeds.tolist())
        self._running[slots] = True
        self._write(slots, obs[slots])

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class.

        Raises:
            ValueError: If a slot is inactive in the middle of an episode. VMAS steps
                all copies together.
        """
        if (self._running & ~active).any():
            raise ValueError("VMAS steps all running copies: none can wait")
        obs, step = self._core.step(np.where(active[:, None], actions, 0))
        self._write(active, obs[active])
        over = step.terminateds & active
        cut = step.truncateds & active & ~over
        self._running &= ~(over | cut)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        agents = list(self.spec.agents)
        for slot in slots_where(over | cut):
            numbers = [numbers_of_copy(info, slot) for info in step.infos]
            infos[slot] = merge_infos(dict(zip(agents, numbers, strict=True)), agents)
            if cut[slot]:
                infos[slot]["episode_limit"] = True
        rewards = np.zeros(self.num_envs, np.float32)
        rewards[active] = team_rewards(
            self._team_reward, self.spec.agents, step.rewards[active]
        )
        terminal = over | cut if self._time_limit_is_terminal else over
        return BatchedStep(rewards, terminal, (over | cut) & ~terminal, infos)

    def _write(self, rows: np.ndarray, obs: np.ndarray) -> None:
        self.obs[rows] = obs
        if self.state.shape[1]:
            self.state[rows] = obs.reshape(-1, self.state.shape[1])
