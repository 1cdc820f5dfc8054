"""A PettingZoo environment whose step takes 20 ms, like that of a real simulator."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

STEP_S = 0.02
EPISODE_STEPS = 25


class SlowEnv(ParallelEnv):
    """Two agents wait; reward 1 per step for agreeing, 25 steps."""

    metadata: ClassVar[dict] = {"name": "slow_v0", "render_modes": []}

    def __init__(self) -> None:
        """Initializes the environment."""
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.render_mode = None
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Space:
        """One number: the part of the episode that is over."""
        return spaces.Box(0.0, 1.0, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        """Two actions."""
        return spaces.Discrete(2)

    def reset(
        self, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict, dict]:
        """Starts an episode."""
        self.agents = list(self.possible_agents)
        self._steps = 0
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Waits, and pays for agreement."""
        time.sleep(STEP_S)
        self._steps += 1
        agents = self.agents
        reward = float(len(set(map(int, actions.values()))) == 1)
        over = self._steps == EPISODE_STEPS
        obs = self._observe()
        if over:
            self.agents = []
        return (
            obs,
            dict.fromkeys(agents, reward),
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, over),
            {agent: {} for agent in agents},
        )

    def _observe(self) -> dict[str, np.ndarray]:
        done = np.array([self._steps / EPISODE_STEPS], np.float32)
        return dict.fromkeys(self.agents, done)
