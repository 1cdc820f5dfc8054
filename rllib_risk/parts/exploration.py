"""Exploration over several environments at once, with unavailable actions left out.

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

# A zeta(2) draw has no mean: without a cap one draw could outlast every episode.
MAX_REPEATS = 1000


class Explorer(Part):
    """How actions are chosen while sampling; one object for each env runner.

    An explorer of your own defines :meth:`explore`, and :meth:`reset` if something
    lasts between steps.
    """

    @dataclass(frozen=True)
    class Options:
        epsilon_ladder: float = option(
            0.0,
            "Spread of epsilon over environments as in Ape-X: the first has epsilon,"
            " the last epsilon ** (1 + ladder); 0: all the same.",
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
        """Forgets what lasts between steps, where new episodes begin.

        Args:
            slots: Indices of environments.
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
            utilities: What the network says of every action, ``-inf`` where it is not
                available, ``[E, N, A]``.
            action_mask: ``[E, N, A]``.
            epsilon: ``[E]``.
            rng: Source of all randomness.

        Returns:
            int64 ``[E, N]``, available ones only.
        """
        raise NotImplementedError(f"{type(self).__name__} must define explore().")


class EpsilonGreedy(Explorer):
    """With probability epsilon an available action at random, else the greedy one.

    Each agent decides for itself at each step (PyMARL).
    """

    def __init__(self, num_envs: int, num_agents: int, options: Any = None) -> None:
        """Initializes the explorer; see :class:`Explorer`."""
        super().__init__(num_envs, num_agents, options)
        self.coins = self.shape  # one for each agent

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`Explorer.explore`."""
        explores = rng.random(self.coins) < epsilon[:, None]
        greedy = utilities.argmax(axis=-1)
        return np.where(explores, random_available(action_mask, rng), greedy)


class TeamEpsilonGreedy(EpsilonGreedy):
    """Epsilon-greedy with one coin for the whole team at each step.

    Either all agents act at random, each with a draw of its own, or all greedily: so
    the authors of DrIGM (robust value factorization). The whole team's greedy action is
    then seen with probability ``1 - epsilon``, whatever the number of agents.
    """

    def __init__(self, num_envs: int, num_agents: int, options: Any = None) -> None:
        """Initializes the explorer; see :class:`Explorer`."""
        super().__init__(num_envs, num_agents, options)
        self.coins = (num_envs, 1)


class EpsilonZGreedy(EpsilonGreedy):
    """Epsilon-z-greedy: an exploring agent keeps to its random action for a while.

    Dabney, Ostrovski and Barreto, "Temporally-extended epsilon-greedy exploration"
    (ICLR 2021). The number of steps is drawn from a zeta distribution. An action that
    becomes unavailable ends its stretch.
    """

    @dataclass(frozen=True)
    class Options(Explorer.Options):
        epsilon_z_exponent: float = option(
            2.0,
            "Exponent of the zeta distribution of repeats in epsilon_z_greedy.",
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
    """Draws every agent's action from a stochastic policy; utilities are its logits."""

    def explore(
        self,
        utilities: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`Explorer.explore`."""
        weights = _softmax_weights(utilities, action_mask, epsilon)
        # Of independent exponential clocks, the one of rate p rings first with
        # probability proportional to p.
        clocks = rng.standard_exponential(weights.shape)
        rings = np.full(weights.shape, np.inf)
        np.divide(clocks, weights, out=rings, where=weights > 0.0)
        return rings.argmin(axis=-1)


def _softmax_weights(
    logits: np.ndarray, action_mask: np.ndarray, epsilon: np.ndarray
) -> np.ndarray:
    """:func:`action_probabilities` in NumPy, before they are normalised."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    softmax = shifted / shifted.sum(axis=-1, keepdims=True)
    share = epsilon[:, None, None]
    return ((1.0 - share) * softmax + share / logits.shape[-1]) * (action_mask != 0)


def action_probabilities(logits: Tensor, action_mask: Tensor, epsilon: float) -> Tensor:
    """The policy of actor-critic teams, in acting and in learning; PyMARL.

    ``pi = (1 - epsilon) softmax(logits) + epsilon / A``, then zero for unavailable
    actions, and normalised. The softmax is over available actions only: PyMARL's is
    over all of them, so that there an action that cannot be taken moves the others.

    Args:
        logits: ``[..., A]``.
        action_mask: Nonzero where the action is available, ``[..., A]``.
        epsilon: Least share of chance.

    Returns:
        ``[..., A]``.
    """
    available = action_mask.bool()
    softmax = logits.masked_fill(~available, -torch.inf).softmax(dim=-1)
    mixed = (1.0 - epsilon) * softmax + epsilon / logits.shape[-1]
    mixed = mixed * available
    return mixed / mixed.sum(dim=-1, keepdim=True)


def random_available(action_mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One available action for every agent, all of them as likely.

    Args:
        action_mask: ``[E, N, A]``.
        rng: Source of the randomness.

    Returns:
        int64 ``[E, N]``.
    """
    # The largest of independent uniform numbers is uniform over the available actions.
    noise = rng.random(action_mask.shape)
    return np.where(action_mask, noise, -1.0).argmax(axis=-1)


def ladder(epsilon: float, exponent: float, num_envs: int) -> np.ndarray:
    """A different epsilon for each environment, from ``epsilon`` downwards.

    Ape-X (Horgan et al., 2018), Section 4: ``epsilon ** (1 + i * exponent / (E - 1))``.

    Args:
        epsilon: Of the first environment.
        exponent: 0 gives all environments the same epsilon; 7 in the paper.
        num_envs: ``E``, over all runners.

    Returns:
        float64 ``[E]``.
    """
    position = np.arange(num_envs) / max(num_envs - 1, 1)
    return epsilon ** (1.0 + exponent * position)
