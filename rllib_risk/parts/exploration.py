"""Explorers choose available actions for several environments at once.

Letters: ``E`` environments, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part

# A zeta(2) distribution has no mean: an uncapped draw could be longer than any episode.
MAX_REPEATS = 1000


class Explorer(Part):
    """Chooses actions while sampling; each env runner has one explorer.

    A custom explorer defines :meth:`explore`. It also defines :meth:`reset` if it keeps
    a state between steps.
    """

    @dataclass(frozen=True)
    class Options:
        epsilon_ladder: float = option(
            0.0,
            "Spread of epsilon over environments, as in Ape-X: the first environment"
            " has epsilon, the last epsilon ** (1 + ladder). 0: all have epsilon.",
            low=0.0,
        )

    options: Any

    def __init__(self, num_envs: int, num_agents: int, options: Any = None) -> None:
        """Initializes the explorer.

        Args:
            num_envs: ``E``.
            num_agents: ``N``.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)
        self.shape = (num_envs, num_agents)

    def reset(self, slots: np.ndarray) -> None:
        """Clears the state between steps for environments with new episodes.

        Args:
            slots: Indices of these environments.
        """

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Chooses actions.

        Args:
            utilities: Utilities of all actions, ``-inf`` where an action is not
                available, ``[E, N, A]``.
            action_mask: Nonzero where an action is available, ``[E, N, A]``.
            epsilon: Exploration rate of each environment, ``[E]``.
            rng: Generator of all random numbers.

        Returns:
            Available actions, int64 ``[E, N]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define explore().")


class EpsilonGreedy(Explorer):
    """Epsilon-greedy: a random available action with probability epsilon.

    Otherwise the agent takes its greedy action. Every agent draws separately at every
    step, as in PyMARL.
    """

    def __init__(self, num_envs: int, num_agents: int, options: Any = None) -> None:
        """Initializes the explorer; see :class:`Explorer`."""
        super().__init__(num_envs, num_agents, options)
        self.draw_shape = self.shape  # one draw per agent

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`Explorer.explore`."""
        explores = rng.random(self.draw_shape) < epsilon[:, None]
        greedy = utilities.argmax(axis=-1)
        return np.where(explores, random_available(action_mask, rng), greedy)


class TeamEpsilonGreedy(EpsilonGreedy):
    """Epsilon-greedy with one draw per step for the whole team.

    Either all agents take random actions, drawn separately, or all act greedily, as in
    the code of DrIGM (robust value factorization). The greedy joint action then has a
    probability of at least ``1 - epsilon`` for any number of agents.
    """

    def __init__(self, num_envs: int, num_agents: int, options: Any = None) -> None:
        """Initializes the explorer; see :class:`Explorer`."""
        super().__init__(num_envs, num_agents, options)
        self.draw_shape = (num_envs, 1)  # one draw per team


class EpsilonZGreedy(EpsilonGreedy):
    """Epsilon-z-greedy: an exploring agent repeats its random action for several steps.

    Dabney, Ostrovski and Barreto, "Temporally-extended epsilon-greedy exploration"
    (ICLR 2021). The number of steps is drawn from a zeta distribution. The repetition
    ends early if the action becomes unavailable.
    """

    @dataclass(frozen=True)
    class Options(Explorer.Options):
        epsilon_z_exponent: float = option(
            2.0,
            "Exponent of the zeta distribution of the number of repetitions in"
            " epsilon_z_greedy.",
            low=1.0,
            low_open=True,
        )

    options: Options

    def __init__(
        self, num_envs: int, num_agents: int, options: Options | None = None
    ) -> None:
        """Initializes the explorer; see :class:`Explorer`."""
        super().__init__(num_envs, num_agents, options)
        self.remaining = np.zeros(self.shape, np.int64)
        self.repeated = np.zeros(self.shape, np.int64)

    def reset(self, slots: np.ndarray) -> None:
        """See :meth:`Explorer.reset`."""
        self.remaining[slots] = 0

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`Explorer.explore`."""
        kept = np.take_along_axis(action_mask, self.repeated[..., None], -1)[..., 0]
        goes_on = (self.remaining > 0) & (kept != 0)
        begins = ~goes_on & (rng.random(self.shape) < epsilon[:, None])
        lengths = np.minimum(
            rng.zipf(self.options.epsilon_z_exponent, self.shape), MAX_REPEATS
        )
        random = random_available(action_mask, rng)
        self.repeated = np.where(begins, random, self.repeated)
        self.remaining = np.where(begins, lengths, np.where(goes_on, self.remaining, 0))
        exploring = self.remaining > 0
        self.remaining -= exploring
        return np.where(exploring, self.repeated, utilities.argmax(axis=-1))


class PolicySampler(Explorer):
    """Samples every agent's action from the policy whose logits are the utilities."""

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`Explorer.explore`."""
        weights = _softmax_weights(utilities, action_mask, epsilon)
        # Exponential race: among independent exponential times with rates p, that of
        # action a is the smallest with a probability proportional to p(a).
        clocks = rng.standard_exponential(weights.shape)
        rings = np.full(weights.shape, np.inf)
        np.divide(clocks, weights, out=rings, where=weights > 0.0)
        return rings.argmin(axis=-1)


def _softmax_weights(
    logits: np.ndarray, action_mask: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    """Computes :func:`action_probabilities` in NumPy, without normalising them."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax = shifted / shifted.sum(axis=-1, keepdims=True)
    share = epsilon[:, None, None]
    return ((1.0 - share) * softmax + share / logits.shape[-1]) * (action_mask != 0)


def action_probabilities(logits: Tensor, action_mask: Tensor, epsilon: float) -> Tensor:
    """Computes the policy of actor-critic teams, in acting and in learning (PyMARL).

    ``pi = (1 - epsilon) softmax(logits) + epsilon / A``. Unavailable actions are then
    set to zero, and the result is normalised. The softmax is over available actions
    only. In PyMARL it is over all actions, so unavailable actions affect the others.

    Args:
        logits: Logits ``[..., A]``.
        action_mask: Nonzero where an action is available, ``[..., A]``.
        epsilon: Weight of the uniform distribution.

    Returns:
        Probabilities ``[..., A]``.
    """
    available = action_mask.bool()
    softmax = logits.masked_fill(~available, -torch.inf).softmax(dim=-1)
    mixed = (1.0 - epsilon) * softmax + epsilon / logits.shape[-1]
    mixed = mixed * available
    return mixed / mixed.sum(dim=-1, keepdim=True)


def random_available(action_mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws an available action for every agent, uniformly.

    Args:
        action_mask: Nonzero where an action is available, ``[E, N, A]``.
        rng: Random generator.

    Returns:
        Actions, int64 ``[E, N]``.
    """
    # The position of the largest of independent uniform numbers is itself uniform.
    noise = rng.random(action_mask.shape)
    return np.where(action_mask, noise, -1.0).argmax(axis=-1)


def ladder(epsilon: float, exponent: float, num_envs: int) -> np.ndarray:
    """Computes a different epsilon for each environment, from ``epsilon`` downwards.

    Ape-X (Horgan et al., 2018), Section 4: ``epsilon ** (1 + i * exponent / (E - 1))``.

    Args:
        epsilon: Epsilon of the first environment.
        exponent: Spread of epsilon. 0 gives all environments the same epsilon; the
            paper uses 7.
        num_envs: ``E``, number of environments of all runners.

    Returns:
        float64 ``[E]``.
    """
    position = np.arange(num_envs) / max(num_envs - 1, 1)
    return epsilon ** (1.0 + exponent * position)
