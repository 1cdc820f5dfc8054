"""Draws the reward noise and the wind of a whole episode of MACN when it starts.

One call per episode, not one per step, lets the vectorised twin get the same numbers
from the same seed. Noise is drawn first and wind second. Either one is drawn only if it
is switched on. The noise of a seed is therefore the same with and without wind.
"""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.macn.map import NUM_AGENTS


def draw_noise(rng: np.random.Generator, std: float, episode_limit: int) -> np.ndarray:
    """Reward noise of every step, float64 [episode_limit]; empty if std is 0."""
    return rng.normal(0.0, std, episode_limit) if std > 0 else np.zeros(0)


def draw_pushes(
    rng: np.random.Generator, probability: float, episode_limit: int
) -> np.ndarray:
    """Whether the wind pushes an agent in a step, bool [episode_limit, 2].

    Empty if the probability is 0. With the same seed, every push at one probability
    also happens at a greater one.
    """
    if probability == 0:
        return np.zeros((0, NUM_AGENTS), bool)
    return rng.random((episode_limit, NUM_AGENTS)) < probability
