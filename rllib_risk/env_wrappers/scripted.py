"""Scripted policies, as references for learned ones.

An env class offers its own policies in a static method
`reference_policies(**env_config) -> dict[str, ScriptedPolicy]`. Every env also has
uniformly random play.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from rllib_risk.env_wrappers.registry import resolve


class ScriptedPolicy(Protocol):
    """Chooses actions for E copies of a team at once, without memory."""

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Chooses one joint action per copy.

        Args:
            obs: Observations of the team env, [E, N, D], float32 or (images) uint8.
            action_mask: 1 where an action is legal, uint8 [E, N, A].
            rng: Source of all randomness of the policy.

        Returns:
            Legal action numbers, int64 [E, N].
        """
        ...


class RandomPolicy:
    """Uniformly random legal actions, independent between agents."""

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws the actions; see `ScriptedPolicy.act`."""
        if action_mask.all():
            # Counting legal actions takes ten times as long as a vectorised env step.
            return rng.integers(action_mask.shape[-1], size=action_mask.shape[:-1])
        legal_so_far = (action_mask != 0).cumsum(-1, dtype=np.int32)  # [E, N, A]
        rank = rng.integers(legal_so_far[..., -1])  # [E, N], counted from 0
        # the legal action that has `rank` legal actions before it
        return (legal_so_far > rank[..., None]).argmax(-1)


def reference_policies(
    name: str, env_config: Mapping[str, Any] | None = None
) -> dict[str, ScriptedPolicy]:
    """The reference policies of an env.

    Args:
        name: A key of `registry.ENVS`.
        env_config: Arguments of the env and keys of the adapter, as in
            `registry.make_team_env`.

    Returns:
        Policies by name: "random" first, then those of the env itself.

    Raises:
        EnvConfigError: If the name, a key or a value is wrong.
    """
    factory, kwargs, _ = resolve(name, env_config)
    policies: dict[str, ScriptedPolicy] = {"random": RandomPolicy()}
    of_the_env = getattr(factory, "reference_policies", None)
    if of_the_env is not None:
        policies.update(of_the_env(**kwargs))
    return policies
