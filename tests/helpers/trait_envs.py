"""Small PettingZoo envs, each with one trait that envs of users have."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import AgentSelector, aec_to_parallel


class Plain(ParallelEnv):
    """No special trait: three observed numbers, three actions, one reward, a state."""

    metadata: ClassVar[dict[str, Any]] = {"name": "plain", "render_modes": []}
    render_mode = None
    num_players = 2
    limit = 6

    def __init__(self):
        self.possible_agents = self._names()
        self.agents = []
        self.observations = {a: self._obs_space(a) for a in self.possible_agents}
        self.actions = {a: self._action_space(a) for a in self.possible_agents}

    def _names(self):
        return [f"p{i}" for i in range(self.num_players)]

    def _obs_space(self, agent):
        return Box(-1, 1, (3,), np.float32)

    def _action_space(self, agent):
        return Discrete(3)

    def _obs(self, agent):
        return self.rng.uniform(-1, 1, 3).astype(np.float32)

    def _reward(self, actions):
        return 1.0

    def observation_space(self, agent):
        return self.observations[agent]

    def action_space(self, agent):
        return self.actions[agent]

    def state(self):
        return np.zeros(2, np.float32)

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.time = 0
        self.agents = list(self.possible_agents)
        return {a: self._obs(a) for a in self.agents}, {a: {} for a in self.agents}

    def step(self, actions):
        self.time += 1
        acted = list(self.agents)
        late = self.time >= self.limit
        rewards = dict.fromkeys(acted, self._reward(actions))
        if late:
            self.agents = []
        return (
            {a: self._obs(a) for a in acted},
            rewards,
            dict.fromkeys(acted, False),
            dict.fromkeys(acted, late),
            {a: {} for a in acted},
        )


# --- action masks ---------------------------------------------------------------------


class Masked(Plain):
    """One action is legal in each step; an illegal one raises."""

    keys = ("observation", "action_mask")

    def _obs_space(self, agent):
        parts = [Box(-1, 1, (3,), np.float32), Box(0, 1, (3,), np.int8)]
        if len(self.keys) > 2:
            parts.append(Box(-1, 1, (2,), np.float32))
        return Dict(dict(zip(self.keys, parts, strict=True)))

    def _mask(self):
        return np.eye(3, dtype=np.int8)[self.time % 3]

    def _obs(self, agent):
        parts = [super()._obs(agent), self._mask(), np.zeros(2, np.float32)]
        return dict(zip(self.keys, parts, strict=False))

    def step(self, actions):
        for agent, action in actions.items():
            if action != self.time % 3:
                raise ValueError(f"illegal move {action} of {agent}")
        return super().step(actions)


class MaskObs(Masked):
    keys = ("obs", "action_mask")


class MaskObservations(Masked):
    keys = ("observations", "action_mask")


class Mask3Keys(Masked):
    keys = ("observation", "action_mask", "position")


class MaskAvail(Masked):
    keys = ("obs", "avail_actions")


class MaskNested(Masked):
    """The mask lies in a Dict within the Dict."""

    outer = "observation"
    keys = ("joints", "action_mask", "position")

    def _obs_space(self, agent):
        return Dict({self.outer: super()._obs_space(agent)})

    def _obs(self, agent):
        return {self.outer: super()._obs(agent)}


class MaskNestedAvail(MaskNested):
    keys = ("x", "avail_actions")


class MaskTwice(MaskNested):
    """Two entries have the mask's name, both one level down."""

    def _obs_space(self, agent):
        one = Masked._obs_space(self, agent)
        return Dict({"left": one, "right": one})


class MaskInTuple(Masked):
    """The mask lies in a Tuple, where the adapter does not look for it."""

    def _obs_space(self, agent):
        return Tuple((super()._obs_space(agent), Discrete(2)))

    def _obs(self, agent):
        return super()._obs(agent), 0


class MaskOfAnotherSize(Masked):
    def _action_space(self, agent):
        return Discrete(4)


class MaskLost(Masked):
    def _obs(self, agent):
        return {**super()._obs(agent), "action_mask": None}


class MaskAlone(Plain):
    def _obs_space(self, agent):
        return Dict(action_mask=Box(0, 1, (3,), np.int8))


class InfoMask(Plain):
    """Masks in the infos, under the name `key`; an illegal action raises."""

    key = "legal_actions"
    values = 1

    def _infos(self):
        return {
            a: {self.key: [self.values * int(i == self.time % 3) for i in range(3)]}
            for a in self.agents
        }

    def reset(self, seed=None, options=None):
        return super().reset(seed)[0], self._infos()

    def step(self, actions):
        if any(action != self.time % 3 for action in actions.values()):
            raise ValueError("illegal move")
        return (*super().step(actions)[:4], self._infos())


class InfoMaskNested(InfoMask):
    """The mask lies in a dict within the info."""

    key = "action_mask"

    def _infos(self):
        return {a: {"legal": info} for a, info in super()._infos().items()}


class InfoMaskOfTens(InfoMask):
    key = "action_mask"
    values = 10


class InfoMaskSometimes(InfoMask):
    """Leaves the mask out in every second step; all actions are legal."""

    key = "action_mask"

    def _infos(self):
        return {} if self.time % 2 else super()._infos()

    def step(self, actions):
        return (*Plain.step(self, actions)[:4], self._infos())


# --- reset, step, close ---------------------------------------------------------------


class ResetNoArgs(Plain):
    def reset(self):
        return super().reset()


class NeedsOptions(Plain):
    def reset(self, seed=None, options=None):
        self.level = options["level"]
        return super().reset(seed)


class OldApi(Plain):
    def reset(self, seed=None, options=None):
        return super().reset(seed)[0]


class AgentsNone(Plain):
    def reset(self, seed=None, options=None):
        row = super().reset(seed)
        self.agents = None
        return row


class CloseRaises(Plain):
    def close(self):
        raise RuntimeError("window is already gone")


class RewardNone(Plain):
    def _reward(self, actions):
        return None


class HugeReward(Plain):
    def _reward(self, actions):
        return 2.0**25


class Exits(Plain):
    def step(self, actions):
        raise SystemExit(3)


class RLlibStyle(Plain):
    def step(self, actions):
        obs, rewards, _, _, infos = super().step(actions)
        late = self.time >= self.limit
        self.agents = list(self.possible_agents)
        return obs, rewards, {"__all__": False}, {"__all__": late}, infos


class Relative(Plain):
    def __init__(self, path="no/such/table.txt"):
        with open(path) as file:
            self.table = file.read()
        super().__init__()


# --- agents ---------------------------------------------------------------------------


class Respawn(Plain):
    num_players = 3

    def step(self, actions):
        obs, *others = super().step(actions)
        if self.agents:
            self.agents = [
                a for i, a in enumerate(self.possible_agents) if (self.time + i) % 3
            ]
            obs = {a: self._obs(a) for a in self.agents}
        return obs, *others


class Unlisted(Plain):
    def step(self, actions):
        row = super().step(actions)
        if self.agents:
            self.agents = [*self.agents, "late_joiner"]
        return row


class EndedStays(Plain):
    """The first agent ends in step 2 but stays in `agents`; later flags are false."""

    def step(self, actions):
        _, rewards, terminations, *others = super().step(actions)
        terminations["p0"] = self.time == 2
        if self.agents:
            self.agents = list(self.possible_agents)
        return {a: self._obs(a) for a in ("p0", "p1")}, rewards, terminations, *others


class IntIds(Plain):
    def _names(self):
        return [0, 1]


class Many(Plain):
    num_players = 50


# --- spaces ---------------------------------------------------------------------------


class Hetero(Plain):
    def _obs_space(self, agent):
        return Box(-np.inf, np.inf, (2 + 3 * int(agent[1]),), np.float64)

    def _action_space(self, agent):
        return Discrete(2 + int(agent[1]))

    def _obs(self, agent):
        return self.rng.normal(size=self.observations[agent].shape)


class IntObs(Plain):
    def _obs_space(self, agent):
        return Box(0, 2**31 - 1, (3,), np.int64)

    def _obs(self, agent):
        return self.rng.integers(2**31 - 1, size=3)


class IntState(Plain):
    def state(self):
        return np.array([2**24 + 1])


class ImageLong(Plain):
    limit = 60
    num_players = 4

    def _obs_space(self, agent):
        return Box(0, 255, (84, 84, 3), np.uint8)

    def _obs(self, agent):
        return np.full((84, 84, 3), self.time, np.uint8)


class MultiDisc(Plain):
    def _action_space(self, agent):
        return MultiDiscrete([3, 2])


class NestedDict(Plain):
    def _obs_space(self, agent):
        return Dict(
            pos=Box(-1, 1, (2,), np.float32),
            flags=MultiBinary(3),
            goal=Dict(kind=Discrete(4), at=spaces.Tuple((Discrete(3), Discrete(2)))),
        )

    def _obs(self, agent):
        return {
            "pos": np.zeros(2, np.float32),
            "flags": np.ones(3, np.int8),
            "goal": {"kind": self.time % 4, "at": (2, 1)},
        }


class GraphObs(Plain):
    def _obs_space(self, agent):
        return spaces.Graph(Box(-1, 1, (2,)), None)


class BoxInf(Plain):
    def _action_space(self, agent):
        return Box(-np.inf, np.inf, (1,), np.float32)


class StateList(Plain):
    def state(self):
        return [0.0, 1.0]


class NoState(Plain):
    state = ParallelEnv.state


class NoLimit(Plain):
    limit = 10**9


class Variable(Plain):
    def reset(self, seed=None, options=None):
        row = super().reset(seed)
        self.limit = int(self.rng.integers(1, 30))
        return row


class TurnBased(AECEnv):
    """Two agents that move in turn, five rounds."""

    metadata: ClassVar[dict[str, Any]] = {"name": "turns", "is_parallelizable": True}
    render_mode = None

    def __init__(self):
        super().__init__()
        self.possible_agents = ["p0", "p1"]
        self.views = {a: Box(-1, 1, (2,), np.float32) for a in self.possible_agents}
        self.moves = {a: Discrete(2) for a in self.possible_agents}

    def observation_space(self, agent):
        return self.views[agent]

    def action_space(self, agent):
        return self.moves[agent]

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.time = 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {a: {} for a in self.agents}
        self.selector = AgentSelector(self.agents)
        self.agent_selection = self.selector.next()

    def observe(self, agent):
        return np.array([self.time / 10, 0], np.float32)

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0
        if self.selector.is_last():
            self.time += 1
            self.rewards = dict.fromkeys(self.agents, float(action))
            if self.time >= 5:
                self.truncations = dict.fromkeys(self.agents, True)
        else:
            self._clear_rewards()
        self.agent_selection = self.selector.next()
        self._accumulate_rewards()


def turns_in_parallel():
    return aec_to_parallel(TurnBased())
