"""Gymnasium envs with several agents, in the forms that the adapter takes."""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Scripted(gymnasium.Env):
    """Two agents that see one number and have three actions; `step` follows a script.

    Attributes:
        script: Results of `step`, one for each call.
        played: The joint actions that `step` got.
        seeds: The seeds that `reset` got.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, script=(), reset=None, named=False, render_mode=None) -> None:
        obs, choice = spaces.Box(-9, 9, (1,)), spaces.Discrete(3, start=1)
        if named:
            self.observation_space: Any = spaces.Dict({"left": obs, "right": obs})
            self.action_space: Any = spaces.Dict({"left": choice, "right": choice})
        else:
            self.observation_space = spaces.Tuple([obs, obs])
            self.action_space = spaces.Tuple([choice, choice])
        self.script, self._reset = list(script), reset
        self.played: list[Any] = []
        self.seeds: list[Any] = []
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seeds.append(seed)
        return self._reset

    def step(self, action):
        self.played.append(action)
        return self.script.pop(0)

    def render(self):
        return np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


class Meeting(gymnasium.Env):
    """Two agents on a line of `length` cells, which are rewarded for meeting."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def __init__(self, length: int = 5, render_mode: str | None = None) -> None:
        self.length, self.render_mode = length, render_mode
        cell = spaces.Box(0, length - 1, (2,), np.float32)
        self.observation_space = spaces.Tuple([cell, cell])
        self.action_space = spaces.Tuple([spaces.Discrete(3)] * 2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cells = self.np_random.permutation(self.length)[:2]
        return self._seen(), self._info()

    def step(self, action):
        """Moves the agents. Meeting ends the episode and pays 1 to each agent.

        Otherwise the first agent gets -0.1 and the second one 0.
        """
        moves = np.array(action) - 1
        self.cells = np.clip(self.cells + moves, 0, self.length - 1)
        met = bool(self.cells[0] == self.cells[1])
        rewards = [1.0, 1.0] if met else [-0.1, 0.0]
        return self._seen(), rewards, [met, met], [False, False], self._info()

    def render(self):
        return np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

    def _seen(self):
        first, second = self.cells.astype(np.float32)
        return [np.array([first, second]), np.array([second, first])]

    def _info(self):
        masks = np.ones((2, 3), np.int8)
        masks[:, 0] = self.cells > 0
        masks[:, 2] = self.cells < self.length - 1
        return {"action_mask": masks, "distance": abs(int(np.diff(self.cells)[0]))}


def alone(**kwargs: Any) -> gymnasium.Env:
    """An env of one agent."""
    return gymnasium.make("CartPole-v1", **kwargs)


def uneven() -> gymnasium.Env:
    """An env with two observation spaces but three action spaces."""
    env = Scripted()
    env.action_space = spaces.Tuple([spaces.Discrete(2)] * 3)
    return env


def not_an_env() -> str:
    return "env"


gymnasium.register(
    "Meeting-v0", "gymnasium_envs:Meeting", max_episode_steps=12, kwargs={"length": 7}
)
gymnasium.register("Gone-v0", "no_such_module:Gone")
