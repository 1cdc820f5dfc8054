"""The vectorised twin of the env `smax`: many battles in one compiled call."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    slots_where,
    state_size_of,
)
from rllib_risk.env_wrappers.smax.core import BattleViews, smax_core
from rllib_risk.env_wrappers.smax.env import SMAX, battle_result


class BatchedSMAX(BatchedTeamEnv):
    """E battles of `SMAX` under the team contract.

    The constructor compiles all functions and runs them once, so that later time
    measurements contain no compilation.
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
            state: "auto", "env", "concat_obs" or "none"; as in `TeamEnv`.
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
        # E battles begin in one call, which takes hardly longer than one battle: those
        # of the present reset, and those of the expected next seeds. `_fresh` holds
        # them. The next step moves row `_origin[slot]` of it (-1: none) into each slot.
        self._expected: dict[int, None] = {}
        self._origin = np.full(num_envs, -1, np.int32)
        self._battles, self._fresh_seen = core.begin([0], num_envs)
        self._fresh, self._row_of = self._battles, {0: 0}  # rows by seed
        self._put_fresh()  # compiles the step

    def expect(self, seeds: np.ndarray) -> None:
        """Stores the seeds of the next episodes; see the base class."""
        self._expected = dict.fromkeys(seeds.tolist())

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        wanted = seeds.tolist()
        for seed in wanted:
            self._expected.pop(seed, None)
        if not self._row_of.keys() >= set(wanted):
            self._begin(wanted)
        rows = [self._row_of[seed] for seed in wanted]
        self._origin[slots] = rows
        self._steps[slots] = 0
        self._write(slots, self._fresh_seen.of(rows))

    def _begin(self, wanted: list[int]) -> None:
        """Begins the battles of these seeds, and of expected seeds up to E in total."""
        if (self._origin >= 0).any():
            self._put_fresh()  # before `_fresh` is overwritten
        coming = dict.fromkeys([*wanted, *islice(self._expected, self.num_envs)])
        seeds = list(coming)[: self.num_envs]
        self._fresh, self._fresh_seen = self._core.begin(seeds, self.num_envs)
        self._row_of = {seed: row for row, seed in enumerate(seeds)}

    def _play(
        self, actions: np.ndarray, active: np.ndarray
    ) -> tuple[BattleViews, np.ndarray]:
        self._battles, seen, rewards = self._core.play(
            self._battles, actions, active, self._fresh, self._origin
        )
        self._origin[:] = -1
        return seen, rewards

    def _put_fresh(self) -> None:
        """Moves new battles into their slots without a step of any battle."""
        actions = np.zeros((self.num_envs, self.spec.num_agents), np.int64)
        self._play(actions, np.zeros(self.num_envs, bool))

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        seen, rewards = self._play(actions, active)
        everywhere = bool(active.all())
        rows = slice(None) if everywhere else active
        self._write(rows, seen if everywhere else seen.of(active))
        self._steps += active
        n = self.spec.num_agents
        over = ~(seen.alive[:, :n].any(1) & seen.alive[:, n:].any(1)) & active
        cut = (self._steps >= self._limit) & active & ~over
        infos: list[dict[str, Any]] = [{}] * self.num_envs
        for slot in slots_where(over | cut):
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

    def _write(self, rows: Any, seen: BattleViews) -> None:
        self.obs[rows] = seen.obs
        self.action_mask[rows] = seen.action_mask
        if self._state_source == "concat_obs":
            self.state[rows] = self.obs[rows].reshape(-1, self.state.shape[1])
        elif self._state_source != "none":
            self.state[rows] = seen.state
