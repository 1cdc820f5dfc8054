"""One greedy episode that can be looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import make_env
from rllib_risk.core.episode_loop import evaluation_seed
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import PETTINGZOO


def play_and_render(
    policy: TeamPolicy, config: AlgorithmConfig, seed: int
) -> list[np.ndarray]:
    """Plays the first evaluation episode and renders every step.

    Args:
        policy: Who plays.
        config: Whose environment; its factory must accept ``render_mode``.
        seed: Of the evaluation.

    Returns:
        uint8 frames ``[height, width, 3]``, one more than there are steps.

    Raises:
        EnvConfigError: If the environment gives no frames.
    """
    env = make_env(with_render_mode(config))
    try:
        obs, _ = env.reset(seed=evaluation_seed(seed, 0))
        player = PolicyPlayer(policy, 1)
        frames = [_frame(env.render(), config.env)]
        done = False
        while not done:
            actions, _ = player.act(obs["obs"][None], obs["action_mask"][None])
            obs, _, terminated, truncated, _ = env.step(actions[0])
            done = terminated or truncated
            frames.append(_frame(env.render(), config.env))
        return frames
    finally:
        env.close()


def with_render_mode(config: AlgorithmConfig) -> AlgorithmConfig:
    """The same configuration with ``render_mode: rgb_array`` for the environment."""
    copy = config.copy(copy_frozen=False)
    env_config: dict[str, Any] = dict(config.env_config)
    if config.env == PETTINGZOO:
        kwargs = {**(env_config.get("kwargs") or {}), "render_mode": "rgb_array"}
        env_config["kwargs"] = kwargs
    else:
        env_config["render_mode"] = "rgb_array"
    copy.env_config = env_config
    return copy


def _frame(frame: Any, env: Any) -> np.ndarray:
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise EnvConfigError(
            f"env {env!r}: render() gave {type(frame).__name__}, not a picture. It must"
            " accept render_mode='rgb_array' and return uint8 [height, width, 3]."
        )
    return frame
