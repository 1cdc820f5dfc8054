"""A dataset as arrays of steps, and what another policy would have done in them.

Letters: ``M`` steps of all episodes, ``E`` episodes, ``T`` steps of the longest one,
``N`` agents, ``A`` actions, ``S`` state size, ``D`` observation size, ``C`` size of a
policy's memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from rllib_risk.core.policy import TeamPolicy
from rllib_risk.data.episodes import Episode
from rllib_risk.ops.ratio_terms import Flags, Floats
from rllib_risk.parts.exploration import action_probabilities

Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Episodes that a policy is replayed over together.
_BLOCK = 256


@dataclass(frozen=True)
class Log:
    """Episodes side by side, one row per step; an episode's rows stand in its order.

    Attributes:
        obs: float32 ``[M, N, D]``.
        state: float32 ``[M, S]``.
        action_mask: uint8 ``[M, N, A]``.
        actions: int64 ``[M, N]``.
        rewards: float64 ``[M]``.
        lengths: Steps of each episode, int64 ``[E]``.
    """

    obs: Singles
    state: Singles
    action_mask: npt.NDArray[np.uint8]
    actions: Integers
    rewards: Floats
    lengths: Integers

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Log:
        """Puts episodes side by side; what was observed after their ends is left out.

        Args:
            episodes: At least one.
        """
        kept = list(episodes)
        return cls(
            np.concatenate([e.obs[:-1] for e in kept]),
            np.concatenate([e.state[:-1] for e in kept]),
            np.concatenate([e.action_mask[:-1] for e in kept]),
            np.concatenate([e.actions for e in kept]).astype(np.int64),
            np.concatenate([e.rewards for e in kept]).astype(np.float64),
            np.array([len(e) for e in kept], np.int64),
        )

    @cached_property
    def starts(self) -> Integers:
        """The first row of each episode, int64 ``[E]``."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def episode(self) -> Integers:
        """The episode of each row, int64 ``[M]``."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def time(self) -> Integers:
        """The step of each row in its episode, int64 ``[M]``."""
        return np.arange(len(self.rewards)) - self.starts[self.episode]

    @cached_property
    def mask(self) -> Flags:
        """Real steps, bool ``[E, T]``."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def padded(self, rows: npt.NDArray[np.generic]) -> Floats:
        """Numbers of steps by episode.

        Args:
            rows: ``[M, ...]``.

        Returns:
            float64 ``[E, T, ...]``, zero after the end.
        """
        out = np.zeros((*self.mask.shape, *rows.shape[1:]))
        out[self.mask] = rows
        return out

    def returns(self, gamma: float = 1.0) -> Floats:
        """Return of every episode, float64 ``[E]``.

        Args:
            gamma: Discount in [0, 1].
        """
        weighed = self.rewards * gamma**self.time
        return np.add.reduceat(weighed, self.starts)


@dataclass(frozen=True)
class Replayed:
    """What a policy would have done in every step of a log.

    Attributes:
        probabilities: Of every action, float64 ``[M, N, A]``; one-hot if the policy is
            deterministic. Agents act independently of one another.
        memory: What its later actions depend on besides observation and action,
            float32 ``[M, C]``.
    """

    probabilities: Floats
    memory: Singles

    @property
    def is_deterministic(self) -> bool:
        """Whether every action is certain."""
        return bool((self.probabilities.max(-1) == 1.0).all())

    def taken(self, actions: Integers) -> Floats:
        """Probability of each agent's logged action, float64 ``[M, N]``.

        Args:
            actions: int64 ``[M, N]``.
        """
        return np.take_along_axis(self.probabilities, actions[..., None], -1)[..., 0]


def replay(policy: TeamPolicy, log: Log, *, stochastic: bool = False) -> Replayed:
    """Lets a policy decide in every step of a log, with the memory it would have there.

    Its memory, its last actions and the return so far are those of the log: the policy
    is asked what it would do after what really happened.

    Args:
        policy: The policy.
        log: The log.
        stochastic: False: it acts greedily, as ``rllib evaluate`` plays it and as it is
            deployed. True: it draws its actions from the softmax of its logits, as an
            actor-critic team explores.
    """
    size = policy.network.sizes
    probabilities = np.zeros((len(log.rewards), size.num_agents, size.num_actions))
    memory: list[Singles] = []
    rows_of: list[Integers] = []
    for first in range(0, len(log.lengths), _BLOCK):
        for rows, chosen, kept in _replay_block(policy, log, first, stochastic):
            probabilities[rows] = chosen
            rows_of.append(rows)
            memory.append(kept)
    ordered = np.empty((len(log.rewards), memory[0].shape[-1]), np.float32)
    ordered[np.concatenate(rows_of)] = np.concatenate(memory)
    return Replayed(probabilities, ordered)


def _replay_block(
    policy: TeamPolicy, log: Log, first: int, stochastic: bool
) -> Iterable[tuple[Integers, Floats, Singles]]:
    """Yields rows, probabilities ``[., N, A]`` and memory ``[., C]`` of each step."""
    lengths = log.lengths[first : first + _BLOCK]
    starts = log.starts[first : first + _BLOCK]
    count = len(lengths)
    actor = policy.make_actor(count)
    watch = policy.watch_returns(count)
    epsilon = policy.epsilon_at(policy.global_timestep) if stochastic else 0.0
    for t in range(int(lengths.max())):
        active = t < lengths
        # An episode that has ended repeats its last step, and is not read.
        rows = starts + np.minimum(t, lengths - 1)
        obs = log.obs[rows]
        shown = np.zeros((count, 0), np.float32)
        if watch is not None:
            obs = watch.beside(obs)
            shown = obs[:, 0, -1:]
        utilities, _ = actor.act(obs, log.action_mask[rows])
        if stochastic:
            logits = torch.from_numpy(utilities).double()
            legal = torch.from_numpy(log.action_mask[rows])
            chosen = action_probabilities(logits, legal, epsilon).numpy()
        else:
            chosen = np.eye(utilities.shape[-1])[utilities.argmax(-1)]
        kept = np.concatenate([actor.memory.reshape(count, -1), shown], axis=-1)
        yield rows[active], chosen[active], kept[active]
        actor.remember(log.actions[rows])
        if watch is not None:
            watch.earn(log.rewards[rows])
