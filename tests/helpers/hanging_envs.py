"""Environments that start a process and hang, for the tests of the watchdog."""

from __future__ import annotations

import ctypes
import subprocess
import time
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class Hanging(ParallelEnv):
    """Two agents walk for four steps and get a reward of 1 each per step.

    ``step`` says which steps hang. ``once``: the first step in a process. ``always``:
    every step. ``deadlock``: every step, in C code, where Python handles no signal.
    With ``close_hangs``, ``close`` hangs as well.
    """

    metadata: ClassVar[dict] = {"name": "hanging_v0"}
    hung = False

    def __init__(self, step="never", close_hangs=False):
        self.possible_agents = ["a", "b"]
        self.agents = []
        self.hangs = step
        self.close_hangs = close_hangs
        self.simulator = subprocess.Popen(["sleep", "987654"])

    def observation_space(self, agent):
        return spaces.Box(-10, 10, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def _seen(self):
        return {a: np.array([self.time, 1], np.float32) for a in self.agents}

    def reset(self, seed=None, options=None):
        self.agents, self.time = list(self.possible_agents), 0
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions):
        first, Hanging.hung = not Hanging.hung, True
        if self.hangs == "always" or (self.hangs == "once" and first):
            time.sleep(10_000)
        if self.hangs == "deadlock":
            lock = ctypes.create_string_buffer(64)
            for _ in range(2):
                ctypes.CDLL(None).pthread_mutex_lock(lock)
        self.time += 1
        ended = self.time == 4
        result = (
            self._seen(),
            dict.fromkeys(self.agents, 1.0),
            dict.fromkeys(self.agents, ended),
            dict.fromkeys(self.agents, False),
            {a: {} for a in self.agents},
        )
        if ended:
            self.agents = []
        return result

    def close(self):
        if self.close_hangs:
            time.sleep(10_000)
        self.simulator.terminate()
        self.simulator.wait()
