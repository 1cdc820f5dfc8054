"""One reward of the team, of the agents' rewards.

Letters: k rows, N agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError, NonFiniteError

TEAM_REWARDS = ("shared", "sum", "mean")

# Rewards that differ by less than this count as one shared reward: an env may compute
# the same number along two roundings.
_SHARED_REWARD_TOLERANCE = 1e-6

# NaN compares false with it, and larger rewards are infinite as float32.
_LARGEST = float(np.finfo(np.float32).max)


def check_choice(key: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses a value of the adapter's keys that is none of the choices.

    Args:
        key: Name of the key.
        value: Its value.
        choices: The values that there are.

    Raises:
        EnvConfigError: If it is none of them.
    """
    if value not in choices:
        raise EnvConfigError(
            f"env_config.{key} must be one of {', '.join(choices)}, not {value!r}"
        )


def team_reward(how: str, agents: Sequence[Any], values: Sequence[float]) -> float:
    """The team's reward of one step.

    Args:
        how: "shared", "sum" or "mean".
        agents: The agents that acted.
        values: Reward of each of them.

    Returns:
        The number that all agents got, the sum, or the mean.

    Raises:
        EnvConfigError: If the rewards differ under "shared".
        NonFiniteError: If a reward is NaN, or infinite as float32.
    """
    if not all(abs(value) <= _LARGEST for value in values):
        raise NonFiniteError(f"the rewards are not finite: {_named(agents, values)}")
    if how == "sum":
        return sum(values)
    if how == "mean":
        return sum(values) / len(values)
    if max(values) - min(values) > _SHARED_REWARD_TOLERANCE:
        raise EnvConfigError(
            f"the agents' rewards differ ({_named(agents, values)}) but team_reward is"
            " 'shared': set env_config.team_reward to sum or mean"
        )
    return values[0]


def team_rewards(how: str, agents: Sequence[Any], rewards: np.ndarray) -> np.ndarray:
    """The team's rewards of one step in several copies.

    Args:
        how: "shared", "sum" or "mean".
        agents: The agents, all of which acted.
        rewards: Reward of each of them, float32 [k, N].

    Returns:
        float32 [k]; NaN and infinity stay what they are.

    Raises:
        EnvConfigError: If the rewards differ under "shared".
    """
    if how == "shared":
        spread = rewards.max(1, initial=-np.inf) - rewards.min(1, initial=np.inf)
        for row in rewards[spread > _SHARED_REWARD_TOLERANCE]:
            team_reward(how, agents, row.tolist())  # which raises
        return rewards[:, 0]
    total = rewards.sum(1, dtype=np.float64)
    return (total / len(agents) if how == "mean" else total).astype(np.float32)


def _named(agents: Sequence[Any], values: Sequence[float]) -> str:
    """Text "a: 1.0, b: 2.0" for an error message."""
    return ", ".join(f"{a}: {v:g}" for a, v in zip(agents, values, strict=False))
