"""A small image game in which the place of a bright pixel gives the right action."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

SIDE = 10
LENGTH = 4
NUM_ACTIONS = 4


class BrightPixel(ParallelEnv):
    """Each agent sees a dark image with one bright pixel in one of its quarters.

    The right action is the number of that quarter. The team gets the share of agents
    that are right, so the best return is `LENGTH` and random play gets a quarter of it.
    The other pixels are noise below 40.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "bright_pixel", "render_modes": []}
    render_mode = None
    episode_limit = LENGTH

    def __init__(self):
        self.possible_agents = ["left", "right"]
        self.agents = []
        self._image = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
        self._action = spaces.Discrete(NUM_ACTIONS)

    def observation_space(self, agent):
        return self._image

    def action_space(self, agent):
        return self._action

    def reset(self, seed=None, options=None):
        self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._time = 0
        return self._images(), {agent: {} for agent in self.agents}

    def _images(self):
        images, self.right = {}, {}
        for agent in self.possible_agents:
            image = self._rng.integers(40, size=(SIDE, SIDE, 1)).astype(np.uint8)
            row, column = self._rng.integers(SIDE, size=2)
            image[row, column] = 255
            images[agent] = image
            self.right[agent] = 2 * int(row >= SIDE // 2) + int(column >= SIDE // 2)
        return images

    def step(self, actions):
        hits = np.mean([actions[agent] == self.right[agent] for agent in self.agents])
        self._time += 1
        played = self.agents
        rewards = {agent: float(hits) for agent in played}
        ended = {agent: self._time == LENGTH for agent in played}
        infos = {agent: {} for agent in played}
        images = self._images()
        if self._time == LENGTH:
            self.agents = []
        return images, rewards, ended, dict.fromkeys(played, False), infos


def bright_pixel():
    """Makes the game."""
    return BrightPixel()
