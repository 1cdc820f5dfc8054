"""Small PettingZoo envs whose behaviour a test sets."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class ScriptedEnv(ParallelEnv):
    """Terminates and truncates its agents as a script says.

    `script[t]` maps an agent to "term", "trunc" or "both" in step t; agents that are
    not named go on. Agent k observes k + 1 numbers, all equal to 10 * (k + 1) + t, and
    has k + 2 actions. An agent gets `rewards[agent]`, by default 1.0, in every step.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "scripted", "render_modes": []}
    render_mode = None

    def __init__(self, script, num_agents=2, rewards=None, masks=None, infos=None):
        self.possible_agents = [f"a{k}" for k in range(num_agents)]
        self.agents = []
        self.script = script
        self.rewards = rewards or {}
        self.masks = masks or {}
        self.infos = infos or {}
        self.received = []
        self.closed = False
        self.observation_spaces = {
            agent: spaces.Box(0.0, 1e6, (k + 1,), np.float32)
            for k, agent in enumerate(self.possible_agents)
        }
        self.action_spaces = {
            agent: spaces.Discrete(k + 2)
            for k, agent in enumerate(self.possible_agents)
        }
        self.time = 0

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def _obs(self, agents):
        return {
            a: np.full(int(a[1:]) + 1, 10 * (int(a[1:]) + 1) + self.time, np.float32)
            for a in agents
        }

    def _infos(self, agents):
        infos = {a: dict(self.infos.get(a, {})) for a in agents}
        for agent in agents:
            if agent in self.masks:
                infos[agent]["action_mask"] = np.array(self.masks[agent], np.int8)
        return infos

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.time = 0
        return self._obs(self.agents), self._infos(self.agents)

    def step(self, actions):
        self.received.append(dict(actions))
        acted = list(self.agents)
        assert set(actions) == set(acted)
        ends = self.script[self.time]
        self.time += 1
        term = {a: ends.get(a) in ("term", "both") for a in acted}
        trunc = {a: ends.get(a) in ("trunc", "both") for a in acted}
        self.agents = [a for a in acted if not (term[a] or trunc[a])]
        rewards = {a: self.rewards.get(a, 1.0) for a in acted}
        return self._obs(acted), rewards, term, trunc, self._infos(acted)

    def close(self):
        self.closed = True


class FlakyEnv(ScriptedEnv):
    """Raises in reset or step at random, or returns NaN or inf; 20 steps long."""

    def __init__(self, seed=0, p_step=0.0, p_reset=0.0, nan_at=None, log=None):
        super().__init__([{}] * 19 + [{"a0": "term", "a1": "term"}])
        self.rng = np.random.default_rng(seed)
        self.p_step = p_step
        self.p_reset = p_reset
        self.nan_at = nan_at
        self.log = [] if log is None else log
        self.log.append("made")

    def reset(self, seed=None, options=None):
        self.log.append("reset")
        if self.rng.random() < self.p_reset:
            raise OSError("simulator does not answer")
        return super().reset(seed, options)

    def step(self, actions):
        if self.rng.random() < self.p_step:
            raise ConnectionError("simulator hung up")
        row = super().step(actions)
        if self.nan_at == "obs":
            row[0]["a1"][0] = np.nan
        if self.nan_at == "reward":
            row[1]["a1"] = float("inf")
        return row

    def close(self):
        self.log.append("closed")
        raise OSError("cannot even close")


class RandomDeathEnv(ParallelEnv):
    """Agents that die at random steps; `limit` steps at most; two state numbers."""

    metadata: ClassVar[dict[str, Any]] = {"name": "random_death", "render_modes": []}
    render_mode = None

    def __init__(self, num_agents=4, limit=30):
        self.possible_agents = [f"soldier_{k}" for k in range(num_agents)]
        self.agents = []
        self.limit = limit
        self.observation_spaces = {
            a: spaces.Box(0.0, 1.0, (3,), np.float32) for a in self.possible_agents
        }
        self.action_spaces = {a: spaces.Discrete(5) for a in self.possible_agents}
        self.state_space = spaces.Box(0.0, 1.0, (2,), np.float32)
        self.rng = np.random.default_rng()
        self.time = 0

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

    def state(self):
        alive = len(self.agents) / len(self.possible_agents)
        return np.array([alive, self.time / self.limit], np.float32)

    def _obs(self, agents):
        # never zero, so that a zero row in the team observation is a dead agent
        return {a: self.rng.uniform(0.1, 1.0, 3).astype(np.float32) for a in agents}

    def _infos(self, agents):
        masks = {a: self.rng.integers(0, 2, 5).astype(np.int8) for a in agents}
        for mask in masks.values():
            mask[self.rng.integers(5)] = 1
        return {a: {"action_mask": masks[a]} for a in agents}

    def reset(self, seed=None, options=None):
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.time = 0
        self.masks = self._infos(self.agents)
        return self._obs(self.agents), self.masks

    def step(self, actions):
        acted = list(self.agents)
        assert list(actions) == acted
        for agent, action in actions.items():
            assert self.masks[agent]["action_mask"][action] == 1
        self.time += 1
        term = {a: bool(self.rng.random() < 0.1) for a in acted}
        out = self.time >= self.limit
        trunc = {a: out and not term[a] for a in acted}
        self.agents = [a for a in acted if not (term[a] or trunc[a])]
        self.masks = self._infos(acted)
        rewards = dict.fromkeys(acted, -1.0)
        return self._obs(acted), rewards, term, trunc, self.masks
