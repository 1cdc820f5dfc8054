"""Three agents with 18 numbers to see and five actions, 25 steps."""

from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class SimpleSpread(ParallelEnv):
    """Rewards are 0, and positions do not change."""

    metadata: ClassVar = {"name": "simple_spread_v3"}

    def __init__(self):
        self.possible_agents = ["agent_0", "agent_1", "agent_2"]
        self.spaces = {a: Box(-np.inf, np.inf, (18,)) for a in self.possible_agents}
        self.moves = {agent: Discrete(5) for agent in self.possible_agents}
        self.state_space = Box(-np.inf, np.inf, (54,))

    def observation_space(self, agent):
        return self.spaces[agent]

    def action_space(self, agent):
        return self.moves[agent]

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        return self._views(), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.steps += 1
        players, late = self.agents, self.steps == 25
        if late:
            self.agents = []
        no, over = dict.fromkeys(players, False), dict.fromkeys(players, late)
        return (
            self._views(),
            dict.fromkeys(players, 0.0),
            no,
            over,
            {a: {} for a in players},
        )

    def state(self):
        return np.zeros(54, np.float32)

    def _views(self):
        return {agent: np.zeros(18, np.float32) for agent in self.possible_agents}


def parallel_env(**kwargs):
    return SimpleSpread(**kwargs)
