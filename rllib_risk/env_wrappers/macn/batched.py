"""The vectorised twin of Multi-Agent Cliff Navigation: many copies in one call.

It gives the same numbers as `MACN` through `TeamEnv`. Moves, outcomes, views and states
are looked up in tables over (pairs of) cells. A step is therefore a few NumPy calls,
whatever the number of copies.
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
from rllib_risk.env_wrappers.macn.draws import draw_noise, draw_pushes
from rllib_risk.env_wrappers.macn.env import (
    AGENTS,
    CLIFF,
    GOAL,
    MACN,
    MOVES,
    OTHER,
    OTHER_ON_GOAL,
    OUTSIDE,
    WIND_DIRECTIONS,
)
from rllib_risk.env_wrappers.macn.map import GridMap

# Outcomes of a step by the joint cell; the last two end the episode.
WALKING, ONE_ON_GOAL, SUCCESS, FELL = range(4)


class BatchedMACN(BatchedTeamEnv):
    """E copies of `MACN` under the team contract.

    Cells are numbered row by row, c = row * W + column.
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
            **env_config: Arguments of `MACN`, which checks them.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        env = MACN(**env_config)
        grid = env.map
        self._views = view_table(grid, env.obs_encoding)  # [cells * cells, D]
        self._places = _place_table(grid, env.state_encoding)  # [cells, S / 2]
        size = state_size_of(
            state,
            time_limit_is_terminal,
            2 * self._places.shape[1],
            2 * self._views.shape[1],
        )
        spec = TeamSpec(
            AGENTS, len(MOVES), self._views.shape[1], size, env.episode_limit
        )
        super().__init__(num_envs, spec)
        self._state_source = state
        self._time_limit_is_terminal = time_limit_is_terminal
        self._limit = env.episode_limit
        self._num_cells = grid.cliff.size
        self._next = move_table(grid, env.goal_absorbing)  # [cells, 4]
        self._is_goal = grid.goal.reshape(-1)  # [cells]
        self._outcomes = outcome_table(grid)  # [cells * cells]
        self._rewards = reward_table(env)  # by outcome
        self._wait_pays_once = env.goal_wait_mode == "event"
        self._step_reward = env.step_reward
        self._noise_std = env.reward_noise_std
        self._noise = np.zeros((num_envs, self._limit if self._noise_std > 0 else 0))
        self._wind = env.wind_probability
        self._blown = wind_table(grid, env.wind_direction, env.goal_absorbing)
        self._pushes = np.zeros((num_envs, self._limit if self._wind else 0, 2), bool)
        self._starts = np.array(
            [row * grid.width + column for row, column in grid.starts]
        )
        self._steps = np.zeros(num_envs, np.int64)
        self._cells = np.tile(self._starts, (num_envs, 1))  # [E, 2]
        self._slots = np.arange(num_envs)
        self._refresh()

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode in some slots; see the base class."""
        self._cells[slots] = self._starts
        self._steps[slots] = 0
        if self._noise_std > 0 or self._wind > 0:
            for slot, seed in zip(slots.tolist(), seeds.tolist(), strict=True):
                rng = np.random.default_rng(seed)
                self._noise[slot] = draw_noise(rng, self._noise_std, self._limit)
                self._pushes[slot] = draw_pushes(rng, self._wind, self._limit)
        self._refresh()

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action in every active slot; see the base class."""
        before = self._cells
        cells = self._next[before, actions]  # [E, 2]
        if self._wind > 0:
            pushed = self._pushes[self._slots, self._row()]  # [E, 2]
            cells = np.where(pushed, self._blown[cells], cells)
        if not active.all():
            cells = np.where(active[:, None], cells, before)
        self._cells = cells
        joint = cells[:, 0] * self._num_cells + cells[:, 1]
        outcomes = self._outcomes[joint]  # [E]
        rewards = self._rewards[outcomes]
        if self._wait_pays_once:
            arrived = (self._is_goal[cells] & ~self._is_goal[before]).any(axis=1)
            waiting = (outcomes == ONE_ON_GOAL) & ~arrived
            rewards[waiting] = self._step_reward
        if self._noise_std > 0:
            rewards += self._noise[self._slots, self._row()]
        rewards *= active
        self._steps += active
        terminateds = (outcomes >= SUCCESS) & active
        truncateds = (self._steps >= self._limit) & active & ~terminateds
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for slot in slots_where(terminateds | truncateds):
            success = bool(outcomes[slot] == SUCCESS)
            infos[slot] = {
                "is_success": success,
                "battle_won": success,
                "episode_limit": bool(truncateds[slot]),
            }
        if self._time_limit_is_terminal:
            terminateds |= truncateds
            truncateds = np.zeros(self.num_envs, bool)
        self._refresh()
        return BatchedStep(rewards.astype(np.float32), terminateds, truncateds, infos)

    def _row(self) -> np.ndarray:
        """The present row of each slot in its noise and pushes, int64 [E]."""
        # an inactive slot may stand at the limit, for which nothing was drawn
        return np.minimum(self._steps, self._limit - 1)

    def _refresh(self) -> None:
        """Writes the views and the states of the present cells."""
        cells = self._cells
        pairs = cells * self._num_cells + cells[:, ::-1]  # (own, other), [E, 2]
        # mode "clip" lets take() write into `out` without a buffer
        np.take(self._views, pairs, axis=0, out=self.obs, mode="clip")
        if self._state_source == "concat_obs":
            self.state[:] = self.obs.reshape(self.num_envs, -1)
        elif self._state_source != "none":
            places = self.state.reshape(self.num_envs, 2, -1)
            np.take(self._places, cells, axis=0, out=places, mode="clip")


def move_table(grid: GridMap, goal_absorbing: bool) -> np.ndarray:
    """The cell after every move from every cell, int64 [cells, 4]."""
    rows, columns = np.divmod(np.arange(grid.cliff.size), grid.width)
    table = np.empty((grid.cliff.size, len(MOVES)), np.int64)
    for action, (down, right) in enumerate(MOVES):
        # clipping one coordinate is staying in place: a move changes only one
        row = np.clip(rows + down, 0, grid.height - 1)
        column = np.clip(columns + right, 0, grid.width - 1)
        table[:, action] = row * grid.width + column
    if goal_absorbing:
        goals = np.flatnonzero(grid.goal)
        table[goals] = goals[:, None]
    return table


def wind_table(grid: GridMap, direction: str, goal_absorbing: bool) -> np.ndarray:
    """The cell after a gust of wind in every cell, int64 [cells]."""
    moves = move_table(grid, goal_absorbing)
    table = moves[:, WIND_DIRECTIONS.index(direction)].copy()
    fallen = np.flatnonzero(grid.cliff)
    table[fallen] = fallen
    return table


def reward_table(env: MACN) -> np.ndarray:
    """The reward of every outcome, float64 [4]."""
    return np.array([env.step_reward, env.goal_wait_reward, 0.0, env.cliff_reward])


def outcome_table(grid: GridMap) -> np.ndarray:
    """The outcome of standing on every pair of cells, int64 [cells * cells]."""
    cliff, goal = grid.cliff.reshape(-1), grid.goal.reshape(-1)
    table = np.where(goal[:, None] != goal[None, :], ONE_ON_GOAL, WALKING)
    table[goal[:, None] & goal[None, :]] = SUCCESS
    table[cliff[:, None] | cliff[None, :]] = FELL
    return table.reshape(-1)


def _place_table(grid: GridMap, state_encoding: str) -> np.ndarray:
    """One agent's part of the state for every cell, float32 [cells, S / 2]."""
    if state_encoding == "onehot":
        return np.eye(grid.cliff.size, dtype=np.float32)
    rows, columns = np.divmod(np.arange(grid.cliff.size), grid.width)
    scaled = [rows / max(grid.height - 1, 1), columns / max(grid.width - 1, 1)]
    return np.stack(scaled, axis=1).astype(np.float32)


def view_table(grid: GridMap, obs_encoding: str) -> np.ndarray:
    """The views for every pair of cells (own cell, other agent's cell).

    Args:
        grid: The map.
        obs_encoding: "codes" or "onehot".

    Returns:
        float32 [cells * cells, 9] or [cells * cells, 36].
    """
    num_cells = grid.cliff.size
    padded = np.pad(np.where(grid.cliff, CLIFF, 0) + np.where(grid.goal, GOAL, 0), 1)
    padded[[0, -1], :] = OUTSIDE
    padded[:, [0, -1]] = OUTSIDE
    # [H, W, 3, 3] -> [cells, 9]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    codes = np.broadcast_to(
        windows.reshape(num_cells, 1, 9), (num_cells, num_cells, 9)
    ).copy()
    seen = np.zeros_like(codes, dtype=bool)  # where the other agent is
    rows, columns = np.divmod(np.arange(num_cells), grid.width)
    down = rows[None, :] - rows[:, None] + 1  # of the other agent, in the own window
    right = columns[None, :] - columns[:, None] + 1
    near = (down >= 0) & (down <= 2) & (right >= 0) & (right <= 2)
    own, other = np.nonzero(near)
    seen[own, other, (3 * down + right)[own, other]] = True
    if obs_encoding == "onehot":
        flags = [codes == OUTSIDE, codes == CLIFF, codes == GOAL, seen]
        return np.stack(flags, axis=-1).astype(np.float32).reshape(num_cells**2, 36)
    codes[seen] = np.where(codes[seen] == GOAL, OTHER_ON_GOAL, OTHER)
    return (codes / OTHER_ON_GOAL).astype(np.float32).reshape(num_cells**2, 9)
