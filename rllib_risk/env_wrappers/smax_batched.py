"""The env `smax`, many battles in one compiled call."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    state_size_of,
)
from rllib_risk.env_wrappers.smax import SMAX, battle_result
from rllib_risk.env_wrappers.smax_core import smax_core
from rllib_risk.env_wrappers.team_env import TeamSpec


class BatchedSMAX(BatchedTeamEnv):
    """E battles of `SMAX` under the team contract.

    Compiled, and run once, when it is built: what is timed later are battles.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        state: str = "auto",
        time_limit_is_terminal: bool = False,
        **env_config: Any,
    ) -> None:
        """Allocates the arrays and compiles.

        Args:
            num_envs: Number of battles E.
            state: "auto" or "env", "concat_obs", "none"; as in `TeamEnv`.
            time_limit_is_terminal: As in `TeamEnv`.
            **env_config: Arguments of `SMAX`, which checks them.

        Raises:
            EnvConfigError: If an argument is wrong.
        """
        env = SMAX(**env_config)
        core = self._core = smax_core(env.scenario)
        sizes = env.scenario
        agents = tuple(env.possible_agents)
        size = state_size_of(
            state,
            time_limit_is_terminal,
            sizes.state_size,
            len(agents) * sizes.obs_size,
        )
        super().__init__(
            num_envs,
            TeamSpec(
                agents, sizes.num_actions, sizes.obs_size, size, env.episode_limit
            ),
        )
        self._state_source = state
        self._time_limit_is_terminal = time_limit_is_terminal
        self._limit = env.episode_limit
        self._steps = np.zeros(num_envs, np.int64)
        self._battles = core.empty(num_envs)

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        if not len(slots):
            return
        self._battles, seen = self._core.begin(self._battles, slots, seeds)
        self._steps[slots] = 0
        self._write(slots, seen)

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        self._battles, seen, rewards = self._core.play(self._battles, actions, active)
        everywhere = bool(active.all())
        rows = slice(None) if everywhere else active
        self._write(
            rows, seen if everywhere else type(seen)(*(a[active] for a in seen))
        )
        self._steps += active
        n = self.spec.num_agents
        over = ~(seen.alive[:, :n].any(1) & seen.alive[:, n:].any(1)) & active
        cut = (self._steps >= self._limit) & active & ~over
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        for slot in np.flatnonzero(over | cut).tolist():
            info = battle_result(seen.alive[slot], n)
            del info["over"]
            infos[slot] = {**info, "episode_limit": True} if cut[slot] else info
        terminal = over | cut if self._time_limit_is_terminal else over
        return BatchedStep(
            np.where(active, rewards, 0.0).astype(np.float32),
            terminal,
            (over | cut) & ~terminal,
            infos,
        )

    def _write(self, rows: Any, seen: Any) -> None:
        self.obs[rows] = seen.obs
        self.action_mask[rows] = seen.action_mask
        if self._state_source == "concat_obs":
            self.state[rows] = self.obs[rows].reshape(-1, self.state.shape[1])
        elif self._state_source != "none":
            self.state[rows] = seen.state
