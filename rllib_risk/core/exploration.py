"""Exploration over several environments at once, with unavailable actions left out.

Letters: ``E`` environments, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

import numpy as np

# A zeta(2) draw has no mean: without a cap one draw could outlast every episode.
MAX_REPEATS = 1000


class EpsilonGreedy:
    """With probability epsilon an available action at random, else the greedy one.

    Each agent decides for itself at each step (PyMARL).
    """

    def __init__(self, num_envs: int, num_agents: int) -> None:
        """Initializes the explorer.

        Args:
            num_envs: ``E``.
            num_agents: ``N``.
        """
        self.shape = (num_envs, num_agents)

    def reset(self, slots: np.ndarray) -> None:
        """Forgets what lasts between steps, where new episodes begin.

        Args:
            slots: Indices of environments.
        """

    def explore(
        self,
        greedy: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Chooses actions.

        Args:
            greedy: int64 ``[E, N]``.
            action_mask: ``[E, N, A]``.
            epsilon: ``[E]``.
            rng: Source of all randomness.

        Returns:
            int64 ``[E, N]``, available ones only.
        """
        explores = rng.random(self.shape) < epsilon[:, None]
        return np.where(explores, _random_available(action_mask, rng), greedy)


class EpsilonZGreedy(EpsilonGreedy):
    """Epsilon-z-greedy: an exploring agent keeps to its random action for a while.

    Dabney, Ostrovski and Barreto, "Temporally-extended epsilon-greedy exploration"
    (ICLR 2021). The number of steps is drawn from a zeta distribution. An action that
    becomes unavailable ends its stretch.
    """

    def __init__(self, num_envs: int, num_agents: int, exponent: float) -> None:
        """Initializes the explorer.

        Args:
            num_envs: ``E``.
            num_agents: ``N``.
            exponent: Of the zeta distribution, above 1; 2 in the paper.
        """
        super().__init__(num_envs, num_agents)
        self.exponent = exponent
        self.remaining = np.zeros(self.shape, np.int64)
        self.repeated = np.zeros(self.shape, np.int64)

    def reset(self, slots: np.ndarray) -> None:
        """See :meth:`EpsilonGreedy.reset`."""
        self.remaining[slots] = 0

    def explore(
        self,
        greedy: np.ndarray,
        action_mask: np.ndarray,
        epsilon: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """See :meth:`EpsilonGreedy.explore`."""
        kept = np.take_along_axis(action_mask, self.repeated[..., None], -1)[..., 0]
        goes_on = (self.remaining > 0) & (kept != 0)
        begins = ~goes_on & (rng.random(self.shape) < epsilon[:, None])
        lengths = np.minimum(rng.zipf(self.exponent, self.shape), MAX_REPEATS)
        random = _random_available(action_mask, rng)
        self.repeated = np.where(begins, random, self.repeated)
        self.remaining = np.where(begins, lengths, np.where(goes_on, self.remaining, 0))
        exploring = self.remaining > 0
        self.remaining -= exploring
        return np.where(exploring, self.repeated, greedy)


def _random_available(action_mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # The largest of independent uniform numbers is uniform over the available actions.
    noise = rng.random(action_mask.shape)
    return np.where(action_mask != 0, noise, -1.0).argmax(axis=-1)


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
