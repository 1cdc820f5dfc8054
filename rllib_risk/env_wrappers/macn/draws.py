"""What chance does in an episode of MACN, drawn at once when it starts.

One call per episode, not one per step, lets the batched env get the same numbers from
the same seed. Noise is drawn first and wind second, and what is switched off is not
drawn: so the noise of a seed is the same with and without wind.
"""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.macn.map import NUM_AGENTS


def draw_noise(rng: np.random.Generator, std: float, episode_limit: int) -> np.ndarray:
    """Reward noise of a whole episode, float64 [episode_limit]; empty without noise."""
    return rng.normal(0.0, std, episode_limit) if std > 0 else np.zeros(0)


def draw_pushes(
    rng: np.random.Generator, probability: float, episode_limit: int
) -> np.ndarray:
    """When the wind pushes whom, bool [episode_limit, 2]; empty without wind.

    A seed's pushes at one probability are among those at a greater one.
    """
    if probability == 0:
        return np.zeros((0, NUM_AGENTS), bool)
    return rng.random((episode_limit, NUM_AGENTS)) < probability
