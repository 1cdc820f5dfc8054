"""A log as arrays of steps, and the decisions of another policy on these steps.

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

# Number of episodes that a policy decides on together.
_BLOCK = 256


@dataclass(frozen=True)
class Log:
    """Concatenated episodes with one row per step, in order of episode and step.

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
        """Concatenates episodes, without the observations after their last steps.

        Args:
            episodes: At least one episode.
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
        """First row of each episode, int64 ``[E]``."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def episode(self) -> Integers:
        """Index of the episode of each row, int64 ``[M]``."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def time(self) -> Integers:
        """Step of each row in its episode, int64 ``[M]``."""
        return np.arange(len(self.rewards)) - self.starts[self.episode]

    @cached_property
    def mask(self) -> Flags:
        """True at real steps, False at padding, bool ``[E, T]``."""
        return np.arange(self.lengths.max()) < self.lengths[:, None]

    def padded(self, rows: npt.NDArray[np.generic]) -> Floats:
        """Splits values of steps by episode and pads them with zeros.

        Args:
            rows: Values of all steps, ``[M, ...]``.

        Returns:
            float64 ``[E, T, ...]``.
        """
        out = np.zeros((*self.mask.shape, *rows.shape[1:]))
        out[self.mask] = rows
        return out

    def returns(self, gamma: float = 1.0) -> Floats:
        """Computes the return of every episode, float64 ``[E]``.

        Args:
            gamma: Discount in [0, 1].
        """
        weighed = self.rewards * gamma**self.time
        return np.add.reduceat(weighed, self.starts)


@dataclass(frozen=True)
class Replayed:
    """A policy's decisions in every step of a log.

    Attributes:
        probabilities: Probability of every action, float64 ``[M, N, A]``; one-hot if
            the policy is deterministic. Agents act independently of one another.
        memory: The policy's memory, float32 ``[M, C]``: what its later actions depend
            on besides observation and action.
    """

    probabilities: Floats
    memory: Singles

    @property
    def is_deterministic(self) -> bool:
        """Whether every agent has an action of probability 1 in every step."""
        return bool((self.probabilities.max(-1) == 1.0).all())

    def taken(self, actions: Integers) -> Floats:
        """Returns the probability of each agent's logged action, float64 ``[M, N]``.

        Args:
            actions: Logged actions, int64 ``[M, N]``.
        """
        return np.take_along_axis(self.probabilities, actions[..., None], -1)[..., 0]


def replay(policy: TeamPolicy, log: Log, *, stochastic: bool = False) -> Replayed:
    """Computes a policy's decisions in every step of a log.

    The policy's memory, its previous actions and the return so far come from the logged
    steps before. So each decision is one after the logged history.

    Args:
        policy: The policy.
        log: The log.
        stochastic: False: the policy acts greedily, as in ``rllib evaluate`` and in
            deployment. True: it draws its actions from the softmax of its logits, as an
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
        # An ended episode repeats its last step; ``active`` drops the results.
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
