"""Environments that fail on purpose, for the tests of fault tolerance."""

from __future__ import annotations

import time
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

# One stream for all environments of a process: a rebuilt one must not repeat its fault.
FAULTS = np.random.default_rng(0)
RESETS = 0


class Walk(ParallelEnv):
    """Two agents walk for ``length`` steps; the reward is 1 per step.

    Every fault is off by default.
    """

    metadata: ClassVar[dict] = {"name": "walk_v0"}

    def __init__(
        self,
        length=5,
        step_crash=0.0,
        reset_crash=0.0,
        never_resets=False,
        resets_until_it_breaks=None,
        nan_at=None,
        nan_in_odd_episodes=False,
        sleep_s=0.0,
    ):
        self.possible_agents = ["a", "b"]
        self.agents = []
        self.length = length
        self.step_crash = step_crash
        self.reset_crash = reset_crash
        self.never_resets = never_resets
        self.resets_until_it_breaks = resets_until_it_breaks
        self.nan_at = nan_at
        self.nan_in_odd_episodes = nan_in_odd_episodes
        self.sleep_s = sleep_s

    def observation_space(self, agent):
        return spaces.Box(-10, 10, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(3)

    @property
    def state_space(self):
        return spaces.Box(0, 1000, (1,), np.float32)

    def state(self):
        return np.array([self.time], np.float32)

    def _obs(self):
        value = np.nan if self.time == self.nan_at else self.time / 10
        return {a: np.array([value, i], np.float32) for i, a in enumerate(self.agents)}

    def reset(self, seed=None, options=None):
        global RESETS
        RESETS += 1
        limit = self.resets_until_it_breaks
        broken = self.never_resets or (limit is not None and limit < RESETS)
        if broken or FAULTS.random() < self.reset_crash:
            raise ConnectionError("the simulator does not answer")
        self.agents = list(self.possible_agents)
        self.time = 0
        if self.nan_in_odd_episodes:
            self.nan_at = 3 if seed % 2 else None
        return self._obs(), {a: {} for a in self.agents}

    def step(self, actions):
        if FAULTS.random() < self.step_crash:
            raise OSError("the simulator died")
        time.sleep(self.sleep_s)
        self.time += 1
        obs = self._obs()
        done = self.time >= self.length
        rewards = dict.fromkeys(self.agents, 1.0)
        terminateds = dict.fromkeys(self.agents, done)
        truncateds = dict.fromkeys(self.agents, False)
        infos = {a: {} for a in self.agents}
        if done:
            self.agents = []
        return obs, rewards, terminateds, truncateds, infos
