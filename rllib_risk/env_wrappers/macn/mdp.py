"""Tables of Multi-Agent Cliff Navigation, for exact values by dynamic programming."""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.macn.batched import (
    ONE_ON_GOAL,
    SUCCESS,
    move_table,
    outcome_table,
    reward_table,
    view_table,
    wind_table,
)
from rllib_risk.env_wrappers.macn.env import MACN
from rllib_risk.ops.robust_mdp import TabularMDP


def macn_joint_mdp(**env_config: Any) -> TabularMDP:
    """The game as tables over joint cells and joint moves.

    The C cells are numbered row by row. State c * C + d has agent 0 in cell c and agent
    1 in cell d. Joint action 4 * a + b is move a of agent 0 and move b of agent 1. The
    four outcomes are that the wind pushes no agent, agent 1, agent 0, or both. States
    in which the episode has ended are terminal, with reward 0. The tables contain
    neither the time limit nor the observations.

    Args:
        **env_config: Arguments of `MACN`.

    Returns:
        Tables of S = C * C states, A = 16 joint actions and K = 4 outcomes.

    Raises:
        EnvConfigError: If an argument is out of its range or the rewards are noisy.
    """
    env = MACN(**env_config)
    if env.reward_noise_std > 0:
        raise EnvConfigError("tables hold no reward noise: set reward_noise_std to 0")
    grid, wind = env.map, env.wind_probability
    num_cells = grid.cliff.size
    moves = move_table(grid, env.goal_absorbing)  # [C, 4]
    blown = wind_table(grid, env.wind_direction, env.goal_absorbing)[moves]
    after = np.stack([moves, blown], axis=-1)  # [C, 4, 2], the last axis: pushed or not
    # [C, C, 4, 4, 2, 2] -> [S, 16, 4]
    shape = (num_cells**2, len(moves[0]) ** 2, 4)
    next_states = (
        after[:, None, :, None, :, None] * num_cells + after[None, :, None, :, None, :]
    ).reshape(shape)
    chance = np.array([1.0 - wind, wind])
    chances = np.outer(chance, chance).reshape(-1)  # [4]
    outcomes = outcome_table(grid)
    kinds = outcomes[next_states]
    rewards = reward_table(env)[kinds]
    if env.goal_wait_mode == "event":
        goal = grid.goal.reshape(-1)
        now = np.stack(np.divmod(next_states, num_cells))  # [2, S, 16, 4]
        was = np.stack(np.divmod(np.arange(num_cells**2), num_cells))  # [2, S]
        arrived = (goal[now] & ~goal[was][:, :, None, None]).any(axis=0)
        rewards[(kinds == ONE_ON_GOAL) & ~arrived] = env.step_reward
    terminals = kinds >= SUCCESS
    ended = outcomes >= SUCCESS
    terminals[ended], rewards[ended] = True, 0.0
    (row, column), (other_row, other_column) = grid.starts
    cells = row * grid.width + column, other_row * grid.width + other_column
    return TabularMDP(
        next_states=next_states,
        probabilities=np.broadcast_to(chances, shape).copy(),
        rewards=rewards,
        terminals=terminals,
        start=cells[0] * num_cells + cells[1],
    )


def macn_joint_views(**env_config: Any) -> np.ndarray:
    """The observations of both agents in every state of `macn_joint_mdp`.

    Args:
        **env_config: Arguments of `MACN`.

    Returns:
        float32 [S, 2, 9] or [S, 2, 36].
    """
    env = MACN(**env_config)
    views = view_table(env.map, env.obs_encoding)  # of (own, other), [S, D]
    num_cells = env.map.cliff.size
    own, other = np.divmod(np.arange(num_cells**2), num_cells)
    return np.stack([views, views[other * num_cells + own]], axis=1)
