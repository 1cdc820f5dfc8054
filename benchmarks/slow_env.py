"""PettingZoo environment with steps of 20 ms, as slow as a real simulator."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

STEP_S = 0.02
EPISODE_STEPS = 25


class SlowEnv(ParallelEnv):
    """Game of two agents and 25 steps, with a reward of 1 for equal actions."""

    metadata: ClassVar[dict] = {"name": "slow_v0", "render_modes": []}

    def __init__(self) -> None:
        """Initializes the environment."""
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.render_mode = None
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Space:
        """Returns a box of one number: the elapsed share of the episode."""
        return spaces.Box(0.0, 1.0, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        """Returns two actions."""
        return spaces.Discrete(2)

    def reset(
        self, seed: int | None = None, options: dict | None = None
    ) -> tuple[dict, dict]:
        """Starts an episode."""
        self.agents = list(self.possible_agents)
        self._steps = 0
        return self._observe(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Sleeps, then rewards equal actions."""
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
