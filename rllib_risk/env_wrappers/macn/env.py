"""Multi-Agent Cliff Navigation (MACN), a two-agent cliff walk with one team reward.

Source: the RMIX paper (Qiu et al., 2021, "RMIX: Learning Risk-Sensitive Policies for
Cooperative Reinforcement Learning Agents", NeurIPS) describes the task and published no
code. It fixes the sizes (4x7 and 4x12), the 3x3 view, the four moves and the rewards.
Arguments set the details that the paper leaves open. The defaults are our reading:

* Both agents start in the lower left corner. They must stand on the goal, the lower
  right corner, at the same time. The cells between the corners are cliff. Agents may
  share a cell. An agent that moves off the grid stays in place.
* The reward of a step follows from the cells after both have moved; the first match
  counts: an agent on the cliff (`cliff_reward`, terminated), both on the goal (0,
  terminated, success), one on the goal (`goal_wait_reward` instead of the step reward),
  otherwise `step_reward`.
* After `episode_limit` steps the episode is truncated, not terminated.

The wind (`wind_probability`) is not in the paper. It makes the game slippery: after
both have moved, and before the reward is computed, it pushes each agent independently
by one cell. It does not push an agent off the grid. It does not move an agent that has
just stepped onto the cliff, or one that must stay on the goal (`goal_absorbing`).

The best return on the classic map without wind is -width: the agents need width + 1
moves, and the last move costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import number
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.macn.draws import draw_noise, draw_pushes
from rllib_risk.env_wrappers.macn.map import Cell, GridMap, load_map
from rllib_risk.env_wrappers.macn.render import draw, write

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.macn.batched import BatchedMACN
    from rllib_risk.ops.robust_mdp import TabularMDP

UP, DOWN, LEFT, RIGHT = range(4)
MOVES: tuple[Cell, ...] = ((-1, 0), (1, 0), (0, -1), (0, 1))

# Codes of the cells in a 3x3 view; an observation holds code / 5.
FREE, OUTSIDE, CLIFF, GOAL, OTHER, OTHER_ON_GOAL = range(6)

AGENTS = ("agent_0", "agent_1")
GOAL_WAIT_MODES = ("state", "event")
OBS_ENCODINGS = ("codes", "onehot")
STATE_ENCODINGS = ("onehot", "coordinates")
WIND_DIRECTIONS = ("up", "down", "left", "right")  # in the order of MOVES


class MACN(ParallelEnv):
    """Two agents walk along a cliff to a common goal.

    Actions: 0 up, 1 down, 2 left, 3 right; all are always legal. Infos of every step:
    `is_success` (both on the goal), `battle_won` (the same value, under the name that
    StarCraft loggers read) and `episode_limit` (cut off by the time limit).
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "macn",
        "render_modes": ["ansi", "rgb_array"],
    }
    action_names: ClassVar[Sequence[str]] = ("up", "down", "left", "right")

    def __init__(
        self,
        width: int | None = None,
        height: int | None = None,
        layout: str | Sequence[str] = "classic",
        starts: Sequence[Sequence[int]] | None = None,
        cliff_reward: float = -100.0,
        step_reward: float = -1.0,
        goal_wait_reward: float = -0.5,
        goal_wait_mode: str = "state",
        goal_absorbing: bool = False,
        episode_limit: int = 100,
        obs_encoding: str = "codes",
        state_encoding: str = "onehot",
        reward_noise_std: float = 0.0,
        wind_probability: float = 0.0,
        wind_direction: str = "down",
        render_mode: str | None = None,
    ) -> None:
        """Builds the map and checks every argument.

        Args:
            width: Columns of the classic map, 7 if None; the paper has 7 and 12.
            height: Rows of the classic map, 4 if None, as in the paper.
            layout: "classic" or a map drawn with letters; see `macn.map.load_map`.
            starts: Start cells [[row, column], [row, column]], row 0 at the top;
                the lower left corner for both if None.
            cliff_reward: Reward of a step in which an agent falls; the paper has -100
                (high risk) and -50 (low risk).
            step_reward: Reward of any other step.
            goal_wait_reward: Reward while exactly one agent is on the goal.
            goal_wait_mode: When `goal_wait_reward` is paid. "state": in every step with
                one agent on the goal; "event": only in the step in which it arrives,
                and `step_reward` while it waits.
            goal_absorbing: Whether an agent on the goal must stay there.
            episode_limit: Steps after which the episode is truncated.
            obs_encoding: "codes": the 3x3 view as nine numbers code / 5 (0 free, 1
                outside, 2 cliff, 3 goal, 4 other agent, 5 other agent on the goal);
                "onehot": 3x3x4 flags (outside, cliff, goal, other), 36 numbers.
            state_encoding: "onehot": the cell of each agent, 2 * H * W numbers;
                "coordinates": row and column of each agent scaled to [0, 1].
            reward_noise_std: Standard deviation of the Gaussian noise added to the
                team reward of every step; drawn from the seed given to reset().
            wind_probability: Probability in [0, 1] that the wind pushes an agent in a
                step; drawn from the seed given to reset(), after the noise.
            wind_direction: Direction of the wind: "down", "up", "left" or "right".
            render_mode: "ansi", "rgb_array" or None.

        Raises:
            EnvConfigError: If an argument is out of its range.
        """
        self.map = load_map(layout, width, height, starts)
        for key, value, choices in (
            ("goal_wait_mode", goal_wait_mode, GOAL_WAIT_MODES),
            ("obs_encoding", obs_encoding, OBS_ENCODINGS),
            ("state_encoding", state_encoding, STATE_ENCODINGS),
            ("wind_direction", wind_direction, WIND_DIRECTIONS),
            ("render_mode", render_mode, (None, *self.metadata["render_modes"])),
        ):
            if value not in choices:
                raise EnvConfigError(f"{key} must be one of {choices}, not {value!r}")
        if not isinstance(goal_absorbing, bool):
            raise EnvConfigError(
                f"goal_absorbing must be true or false, not {goal_absorbing!r}"
            )
        self.cliff_reward = number("cliff_reward", cliff_reward)
        self.step_reward = number("step_reward", step_reward)
        self.goal_wait_reward = number("goal_wait_reward", goal_wait_reward)
        self.reward_noise_std = number("reward_noise_std", reward_noise_std)
        if self.reward_noise_std < 0:
            raise EnvConfigError("reward_noise_std must not be negative")
        self.wind_probability = number("wind_probability", wind_probability)
        if not 0 <= self.wind_probability <= 1:
            raise EnvConfigError(
                f"wind_probability must be in [0, 1], not {wind_probability!r}"
            )
        if (
            isinstance(episode_limit, bool)
            or not isinstance(episode_limit, int)
            or episode_limit < 1
        ):
            raise EnvConfigError(
                f"episode_limit must be a positive integer, not {episode_limit!r}"
            )
        self.wind_direction = wind_direction
        self.goal_wait_mode = goal_wait_mode
        self.goal_absorbing = goal_absorbing
        self.episode_limit = episode_limit
        self.obs_encoding = obs_encoding
        self.state_encoding = state_encoding
        self.render_mode = render_mode

        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        obs_size = 9 if obs_encoding == "codes" else 36
        num_cells = self.map.width * self.map.height
        state_size = 4 if state_encoding == "coordinates" else 2 * num_cells
        self.observation_spaces = {
            agent: spaces.Box(0.0, 1.0, (obs_size,), np.float32) for agent in AGENTS
        }
        self.action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(4) for agent in AGENTS
        }
        self.state_space = spaces.Box(0.0, 1.0, (state_size,), np.float32)
        self._scenery = _scenery(self.map, obs_encoding)
        self._cells: list[Cell] = list(self.map.starts)
        self._steps = 0
        self._rng = np.random.default_rng()
        self._noise = np.zeros(0)
        self._pushes = np.zeros((0, 2), bool)

    def observation_space(self, agent: str) -> spaces.Box:
        """The space of one agent's observations, float32 [9] or [36]."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The four moves."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
        """Puts both agents on their start cells.

        Args:
            seed: Seed of the noise and the wind; None: the generator continues.
            options: Not used.

        Returns:
            Observations and infos of both agents.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self._noise = draw_noise(self._rng, self.reward_noise_std, self.episode_limit)
        self._pushes = draw_pushes(self._rng, self.wind_probability, self.episode_limit)
        self.agents = list(AGENTS)
        self._cells = list(self.map.starts)
        self._steps = 0
        return self._observations(), self._infos()

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Moves both agents at once.

        Args:
            actions: A move 0 .. 3 for each agent.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            RuntimeError: If the episode has ended.
            ValueError: If an action is not one of the moves.
        """
        if not self.agents:
            raise RuntimeError("the episode has ended: call reset() first")
        before = [bool(self.map.goal[cell]) for cell in self._cells]
        self._cells = [
            self._move(cell, actions[agent])
            for cell, agent in zip(self._cells, AGENTS, strict=True)
        ]
        if self.wind_probability > 0:
            pushes = self._pushes[self._steps]
            for agent in np.flatnonzero(pushes):
                self._cells[agent] = self._blow(self._cells[agent])
        on_goal = [bool(self.map.goal[cell]) for cell in self._cells]
        fell = any(self.map.cliff[cell] for cell in self._cells)
        success = not fell and all(on_goal)
        arrived = any(now and not was for now, was in zip(on_goal, before, strict=True))
        if fell:
            reward = self.cliff_reward
        elif success:
            reward = 0.0
        elif any(on_goal) and (self.goal_wait_mode == "state" or arrived):
            reward = self.goal_wait_reward
        else:
            reward = self.step_reward
        if self.reward_noise_std > 0:
            reward += float(self._noise[self._steps])
        self._steps += 1
        terminated = fell or success
        truncated = not terminated and self._steps >= self.episode_limit
        if terminated or truncated:
            self.agents = []
        return (
            self._observations(),
            dict.fromkeys(AGENTS, reward),
            dict.fromkeys(AGENTS, terminated),
            dict.fromkeys(AGENTS, truncated),
            self._infos(success, truncated),
        )

    def state(self) -> np.ndarray:
        """The cells of both agents, float32 [2 * H * W] or [4]."""
        if self.state_encoding == "coordinates":
            # avoids a division by zero on a map of one row or column
            scale = max(self.map.height - 1, 1), max(self.map.width - 1, 1)
            return np.array(
                [cell[axis] / scale[axis] for cell in self._cells for axis in (0, 1)],
                np.float32,
            )
        state = np.zeros((2, self.map.height, self.map.width), np.float32)
        for agent, (row, column) in enumerate(self._cells):
            state[agent, row, column] = 1.0
        return state.reshape(-1)

    def render(self) -> str | np.ndarray | None:
        """The map as text ("ansi") or as a picture, uint8 [H * 48, W * 48, 3]."""
        if self.render_mode == "ansi":
            return write(self.map, self._cells)
        if self.render_mode == "rgb_array":
            return draw(self.map, self._cells)
        return None

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    @staticmethod
    def batched(num_envs: int, **env_config: Any) -> BatchedMACN:
        """The vectorised twin: `num_envs` copies that step in one call.

        Args:
            num_envs: Number of copies.
            **env_config: Arguments of this class, and `state` and
                `time_limit_is_terminal` of the team adapter.

        Returns:
            A `BatchedMACN`.
        """
        from rllib_risk.env_wrappers.macn.batched import BatchedMACN

        return BatchedMACN(num_envs, **env_config)

    @staticmethod
    def joint_mdp(**env_config: Any) -> TabularMDP:
        """The game as tables over joint cells and moves; see `mdp.macn_joint_mdp`."""
        from rllib_risk.env_wrappers.macn.mdp import macn_joint_mdp

        return macn_joint_mdp(**env_config)

    @staticmethod
    def joint_views(**env_config: Any) -> np.ndarray:
        """The agents' observations in every state; see `mdp.macn_joint_views`."""
        from rllib_risk.env_wrappers.macn.mdp import macn_joint_views

        return macn_joint_views(**env_config)

    def _move(self, cell: Cell, action: int) -> Cell:
        """The cell after an agent's move."""
        if not 0 <= action < len(MOVES):
            raise ValueError(f"action {action} is not one of the moves 0 .. 3")
        return cell if self._held(cell) else self._beside(cell, action)

    def _blow(self, cell: Cell) -> Cell:
        """The cell after a gust of wind."""
        if self._held(cell) or self.map.cliff[cell]:
            return cell
        return self._beside(cell, WIND_DIRECTIONS.index(self.wind_direction))

    def _held(self, cell: Cell) -> bool:
        """Returns whether an agent in this cell stays there for good."""
        return self.goal_absorbing and bool(self.map.goal[cell])

    def _beside(self, cell: Cell, direction: int) -> Cell:
        """The cell next to this one, or the same one at a wall."""
        row, column = cell[0] + MOVES[direction][0], cell[1] + MOVES[direction][1]
        inside = 0 <= row < self.map.height and 0 <= column < self.map.width
        return (row, column) if inside else cell

    def _observations(self) -> dict[str, np.ndarray]:
        """Both agents' views."""
        return {
            agent: self._view(self._cells[i], self._cells[1 - i])
            for i, agent in enumerate(AGENTS)
        }

    def _view(self, own: Cell, other: Cell) -> np.ndarray:
        """The 3x3 cells around `own`, row by row, float32 [9] or [36]."""
        row, column = own
        # one cell of margin on every side, so the window starts at (row, column)
        view = self._scenery[row : row + 3, column : column + 3].copy()
        down, right = other[0] - row + 1, other[1] - column + 1
        if 0 <= down < 3 and 0 <= right < 3:
            if self.obs_encoding == "onehot":
                view[down, right, 3] = 1.0
            else:
                code = OTHER_ON_GOAL if self.map.goal[other] else OTHER
                view[down, right] = code / OTHER_ON_GOAL
        return view.reshape(-1)

    @staticmethod
    def _infos(success: bool = False, truncated: bool = False) -> dict[str, dict]:
        return {
            agent: {
                "is_success": success,
                "battle_won": success,
                "episode_limit": truncated,
            }
            for agent in AGENTS
        }


def _scenery(grid: GridMap, obs_encoding: str) -> np.ndarray:
    """The codes or flags of all cells without agents, with a margin of one cell.

    Args:
        grid: The map.
        obs_encoding: "codes" or "onehot".

    Returns:
        float32 [H + 2, W + 2] codes / 5, or [H + 2, W + 2, 4] flags.
    """
    codes = np.full((grid.height + 2, grid.width + 2), OUTSIDE)
    codes[1:-1, 1:-1] = np.where(grid.cliff, CLIFF, np.where(grid.goal, GOAL, FREE))
    if obs_encoding == "codes":
        return (codes / OTHER_ON_GOAL).astype(np.float32)
    flags = [codes == OUTSIDE, codes == CLIFF, codes == GOAL, codes == OTHER]
    return np.stack(flags, axis=-1).astype(np.float32)
