"""Environments that fail on purpose, for the tests of fault tolerance."""

from __future__ import annotations

import os
import time
from typing import ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

# All environments of a process share one stream: a rebuilt one must not repeat a fault.
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


# Default fault of the `Faulty` environments of a process.
FAULT = ""
FAULTY_STEP = 3


class Faulty(Walk):
    """Does one thing wrong in the third step, in reset(), or in close()."""

    def __init__(self, fault=None, **kwargs):
        super().__init__(**kwargs)
        self._fault = fault
        self.resets = 0

    @property
    def fault(self):
        return FAULT if self._fault is None else self._fault

    def reset(self, seed=None, options=None):
        self.resets += 1
        if self.fault == "agents change" and self.resets == 2:
            self.possible_agents = ["a", "b", "c"]
        result = super().reset(seed, options)
        match self.fault:
            case "reset exits":
                raise SystemExit(3)
            case "reset gives None":
                return None
            case "reset gives no infos":
                return result[0]
            case "options are needed":
                options["level"]
            case "NaN in reset":
                result[0]["a"][0] = np.nan
        return result

    def step(self, actions):
        row = list(super().step(actions))
        return self._broken(row) if self.time == FAULTY_STEP else tuple(row)

    def _broken(self, row):
        obs, rewards, terminateds, _, infos = row
        match self.fault:
            case "raises without text":
                raise RuntimeError
            case "memory":
                raise MemoryError
            case "exits":
                raise SystemExit(3)
            case "interrupts":
                raise KeyboardInterrupt
            case "hangs":
                time.sleep(10_000)
            case "never ends":
                self.time = 0
            case "ends the process":
                os._exit(9)
            case "four values":
                return tuple(row[:4])
            case "no agents":
                self.agents = []
                return {}, {}, {}, {}, {}
            case "shape":
                obs["a"] = np.zeros(5, np.float32)
            case "scalar":
                obs["a"] = np.float32(1)
            case "None observed":
                obs["a"] = None
            case "text observed":
                obs["a"] = np.array(["x", "y"])
            case "float64":
                obs["a"] = obs["a"].astype(np.float64)
            case "out of bounds":
                obs["a"][:] = 1e6
            case "missing agent":
                del obs["a"]
            case "extra agent":
                obs["c"] = obs["a"]
            case "unlisted agent":
                self.agents.append("c")
            case "huge":
                obs["a"][:] = 3e38
            case "infinite":
                obs["a"][0] = np.inf
            case "NaN reward":
                rewards["a"] = float("nan")
            case "huge reward":
                rewards["a"] = rewards["b"] = 1e300
            case "no reward":
                del rewards["a"]
            case "reward None":
                rewards["a"] = None
            case "reward array":
                rewards["a"] = np.ones(3)
            case "reward text":
                rewards["a"] = "1.0"
            case "RLlib flags":
                terminateds["__all__"] = False
            case "flag text":
                terminateds["a"] = "False"
            case "info None":
                infos["a"] = None
            case "info list":
                infos["a"] = [1]
            case "NaN info":
                infos["a"] = {"metric": float("nan"), "x": "s"}
        return tuple(row)

    def close(self):
        if self.fault == "close raises":
            raise OSError("the window is gone")
        if self.fault == "close hangs":
            time.sleep(10_000)
