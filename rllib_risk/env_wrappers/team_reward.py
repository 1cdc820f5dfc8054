"""Computes the team's reward from the agents' rewards.

Letters: k rows, N agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError, NonFiniteError

TEAM_REWARDS = ("shared", "sum", "mean")

# Rewards that differ by at most this count as one shared reward, because an env may
# round the same number in two ways.
_SHARED_REWARD_TOLERANCE = 1e-6

# Larger rewards are infinite as float32. NaN compares false with every number.
_LARGEST = float(np.finfo(np.float32).max)


def check_choice(key: str, value: Any, choices: Sequence[str]) -> None:
    """Refuses a value of an adapter key that is not one of the choices.

    Args:
        key: Name of the key.
        value: Its value.
        choices: The allowed values.

    Raises:
        EnvConfigError: If the value is not one of the choices.
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
        values: Reward of each agent that acted.

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
        agents: The agents; all of them acted.
        rewards: Reward of each agent, float32 [k, N].

    Returns:
        Team rewards, float32 [k]; NaN or infinite where a reward of an agent is.

    Raises:
        EnvConfigError: If the rewards differ under "shared".
    """
    if how == "shared":
        finite = np.isfinite(rewards).all(1)
        spread = rewards[finite].max(1) - rewards[finite].min(1)
        for row in rewards[finite][spread > _SHARED_REWARD_TOLERANCE]:
            team_reward(how, agents, row.tolist())  # raises the error
        return np.where(finite, rewards[:, 0], np.float32(np.nan))
    total = rewards.sum(1, dtype=np.float64)
    return (total / len(agents) if how == "mean" else total).astype(np.float32)


def _named(agents: Sequence[Any], values: Sequence[float]) -> str:
    """Text "a: 1.0, b: 2.0" for an error message."""
    return ", ".join(f"{a}: {v:g}" for a, v in zip(agents, values, strict=False))
