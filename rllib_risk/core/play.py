"""Plays and renders one greedy episode."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import loop_over, make_env
from rllib_risk.core.rounds import play_evaluation
from rllib_risk.env_wrappers.episode_loop import EpisodeLoop, EpisodeObserver, Player
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import (
    ENVS,
    PETTINGZOO,
    envs_that_render,
    resolve,
    takes_render_mode,
)
from rllib_risk.env_wrappers.team_env import BatchedStep, LoopedTeamEnvs, TeamEnv

_WHAT_IS_NEEDED = (
    "To render, an env must be built with render_mode='rgb_array' and its render() must"
    " return uint8 [height, width, 3]."
)


def play_and_render(
    player: Player, config: AlgorithmConfig, seed: int
) -> list[np.ndarray]:
    """Plays the first evaluation episode and renders every step.

    Args:
        player: Chooses the actions of one environment.
        config: Configuration. The factory of its environment must take
            ``render_mode``.
        seed: Seed of the evaluation.

    Returns:
        Frames, uint8 ``[height, width, 3]``, one more than the number of steps.

    Raises:
        EnvConfigError: If the environment cannot render. An environment that cannot
            render at all is refused before the first step.
        EnvContractError: If the episode does not end.
        EnvFailedError: If the environment fails too often.
        NonFiniteError: If the environment gives NaN that must not be skipped.
    """
    _check_renders(config)
    envs = loop_over(config, partial(_make_rendering_env, config))
    try:
        frames = _Frames(envs, config)
        play_evaluation(config, envs, player, seed, 0, frames)
        return frames.frames
    finally:
        envs.close()


class _Frames(EpisodeObserver):
    """Renders a frame of every observation of the running episode."""

    def __init__(self, envs: LoopedTeamEnvs, config: AlgorithmConfig) -> None:
        self.frames: list[np.ndarray] = []
        self._envs = envs
        self._config = config

    def started(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        # Drops the frames of a lost episode.
        self.frames = [_frame(self._envs.env(0), self._config)]

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        if not step.crashed:
            self.frames.append(_frame(self._envs.env(0), self._config))


def with_render_mode(config: AlgorithmConfig) -> AlgorithmConfig:
    """Copies a configuration and sets ``render_mode: rgb_array`` for its env."""
    copy = config.copy(copy_frozen=False)
    env_config: dict[str, Any] = dict(config.env_config)
    if config.env == PETTINGZOO:
        kwargs = {**(env_config.get("kwargs") or {}), "render_mode": "rgb_array"}
        env_config["kwargs"] = kwargs
    else:
        env_config["render_mode"] = "rgb_array"
    copy.env_config = env_config
    return copy


def _check_renders(config: AlgorithmConfig) -> None:
    """Raises an EnvConfigError if the env's factory takes no ``render_mode``."""
    if config.env not in ENVS:  # a registered creator has no arguments to check
        return
    factory, _, _ = resolve(config.env, dict(config.env_config))
    if takes_render_mode(factory):
        return
    if config.env == PETTINGZOO:
        raise EnvConfigError(
            f"{_named(config)} cannot render pictures: its factory takes no"
            f" render_mode. {_WHAT_IS_NEEDED}"
        )
    raise EnvConfigError(
        f"{_named(config)} cannot render pictures. Environments that can:"
        f" {', '.join(envs_that_render())}, and your own ones whose factory takes"
        " render_mode."
    )


def _make_rendering_env(config: AlgorithmConfig) -> TeamEnv:
    try:
        return make_env(with_render_mode(config))
    except Exception as error:  # the env's own code may refuse the mode in any way
        raise EnvConfigError(
            f"{_named(config)} cannot be built with render_mode='rgb_array':"
            f" {_short(error)}. {_WHAT_IS_NEEDED}"
        ) from error


def _frame(env: TeamEnv, config: AlgorithmConfig) -> np.ndarray:
    try:
        frame = env.render()
    except Exception as error:  # PettingZoo's own render() raises NotImplementedError
        raise EnvConfigError(
            f"{_named(config)}: render() failed: {_short(error)}. {_WHAT_IS_NEEDED}"
        ) from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise EnvConfigError(
            f"{_named(config)}: render() returned {type(frame).__name__}, not a"
            f" picture. {_WHAT_IS_NEEDED}"
        )
    return frame


def _named(config: AlgorithmConfig) -> str:
    """Returns the name of a configuration's env for messages."""
    if config.env == PETTINGZOO:
        return f"env '{PETTINGZOO}' of factory {config.env_config['factory']!r}"
    return f"env {config.env!r}"


def _short(error: Exception) -> str:
    if isinstance(error, EnvConfigError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {error}".rstrip(": .")
