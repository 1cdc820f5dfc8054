"""Builds the team environments of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.env.env_context import EnvContext

from rllib_risk.config.schema import suggest
from rllib_risk.core import ray_internals
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.failures import EnvFailures
from rllib_risk.env_wrappers.guarded_twin import guarded
from rllib_risk.env_wrappers.joined_envs import join_envs, joint_spec
from rllib_risk.env_wrappers.registry import (
    ENVS,
    env_title,
    make_batched,
    make_team_env,
)
from rllib_risk.env_wrappers.scripted import (
    RandomPolicy,
    ScriptedPolicy,
    reference_policies,
)
from rllib_risk.env_wrappers.team_env import BatchedTeamEnv, LoopedTeamEnvs, TeamEnv
from rllib_risk.env_wrappers.watchdog import Watchdog, on_give_up

# The watchdog ends a process that hangs. Its message must reach the Ray driver.
on_give_up.append(ray_internals.notify_driver)


def make_env(config: AlgorithmConfig, context: EnvContext | None = None) -> TeamEnv:
    """Makes one team environment.

    Args:
        config: Its ``env`` is a name of this package, a name registered with Ray Tune
            whose creator returns a ``TeamEnv`` or a PettingZoo ``ParallelEnv``, or such
            a class.
        context: Context for the creator of a registered environment. Default: a context
            with the configuration's ``env_config``.

    Returns:
        The environment.

    Raises:
        EnvConfigError: If the environment is unknown, or no team environment.
    """
    if config.env in ENVS:
        return make_team_env(config.env, dict(config.env_config))
    creator = _creator(config.env)
    made = creator(context or EnvContext(config.env_config, worker_index=0))
    if isinstance(made, TeamEnv):
        return made
    if isinstance(made, ParallelEnv):
        return TeamEnv(made)
    raise EnvConfigError(
        f"env: {config.env!r} makes a {type(made).__name__}, and a PettingZoo"
        " ParallelEnv or a TeamEnv of this package is needed."
    )


def start_env(config: AlgorithmConfig, context: EnvContext | None = None) -> TeamEnv:
    """Like :func:`make_env`, but retries if the environment fails or hangs.

    Args:
        config: See :func:`make_env`. ``max_env_restarts`` limits the number of
            attempts. ``env_timeout_s`` limits the time of each attempt and of every
            call of the environment.
        context: See :func:`make_env`.

    Returns:
        The environment. Its ``close`` has the same time limit and raises no error.

    Raises:
        EnvConfigError: If the environment is unknown, or no team environment.
        EnvFailedError: If it failed ``max_env_restarts`` times in a row.
    """
    watchdog = Watchdog(env_name(config), config.env_timeout_s)
    failures = EnvFailures(env_name(config), 1, config.max_env_restarts)
    make = partial(make_env, config, context)
    return failures.retry(
        [0], partial(watchdog.build, 0, make), partial(watchdog.end, 0)
    )


def env_name(config: AlgorithmConfig) -> str:
    """Returns the name of a configuration's env for messages."""
    if config.env in ENVS:
        return env_title(str(config.env), config.env_config)
    return str(config.env)


class TeamSpaces(gymnasium.Env):
    """Replaces the environment that RLlib builds in every runner.

    RLlib resets this environment and reads its spaces, but never steps it. A simulator
    would be one more process in each runner.

    Attributes:
        spec_team: Sizes of the team.
    """

    def __init__(self, env: TeamEnv) -> None:
        """Reads sizes and spaces of an environment.

        Args:
            env: The environment; it may be closed afterwards.
        """
        self.spec_team = env.spec_team
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns zeros; RLlib calls it to seed every environment.

        Args:
            seed: Unused.
            options: Unused.

        Returns:
            Observation of zeros, and an empty info.
        """
        zeros = {
            key: np.zeros(space.shape, space.dtype)
            for key, space in self.observation_space.items()  # type: ignore[attr-defined]
        }
        return zeros, {}


def team_spaces_of(config: AlgorithmConfig) -> TeamSpaces:
    """Builds an environment, or each of its variants, once to read its sizes.

    Args:
        config: See :func:`start_env`.

    Returns:
        The sizes and spaces, which can be sent to other processes.

    Raises:
        EnvConfigError: See :func:`start_env`.
        EnvFailedError: See :func:`start_env`.
    """
    variants = [_spaces_of(variant) for variant in variants_of(config)]
    first = variants[0]
    first.spec_team = joint_spec([spaces.spec_team for spaces in variants])
    return first


def _spaces_of(config: AlgorithmConfig) -> TeamSpaces:
    env = start_env(config)
    try:
        return TeamSpaces(env)
    finally:
        env.close()


def make_batched_env(
    config: AlgorithmConfig, num_envs: int, context: EnvContext
) -> BatchedTeamEnv:
    """Makes several environments that step together.

    Args:
        config: See :func:`make_env`. With ``env_variants`` each variant gets the same
            number of environments.
        num_envs: Number of environments.
        context: Context for the creator of a registered environment.

    Returns:
        The vectorised twin of the environment, or a loop if there is none.
    """
    if config.env_variants:
        configs = variants_of(config)
        each = num_envs // len(configs)
        return join_envs(
            partial(make_batched_env, variant, each, context) for variant in configs
        )
    if config.env in ENVS:
        make = partial(
            make_batched,
            config.env,
            dict(config.env_config),
            num_envs,
            timeout_s=config.env_timeout_s,
            **_limits(config),
        )
        return guarded(make, num_envs, env_name=env_name(config), **_limits(config))
    return loop_over(config, lambda: make_env(config, context), num_envs)


def loop_over(
    config: AlgorithmConfig, make: Callable[[], TeamEnv], num_envs: int = 1
) -> LoopedTeamEnvs:
    """Makes environments that step in a loop, with the limits for failures.

    Args:
        config: Configuration; ``max_env_restarts``, ``env_timeout_s`` and
            ``on_nonfinite`` are the limits.
        make: Makes one environment.
        num_envs: Number of environments.

    Returns:
        The environments.
    """
    return LoopedTeamEnvs(
        make,
        num_envs,
        env_name=env_name(config),
        timeout_s=config.env_timeout_s,
        **_limits(config),
    )


def _limits(config: AlgorithmConfig) -> dict[str, Any]:
    """Returns the arguments that say which failures stop the run."""
    return {
        "max_restarts": config.max_env_restarts,
        "skip_nonfinite": config.on_nonfinite != "raise",
    }


def max_copies(config: AlgorithmConfig) -> int:
    """Returns how many copies of the env a command may start if the user named none.

    Args:
        config: Configuration that names the environment. For one that is not in
            :data:`ENVS`, the cost of a copy is unknown, so it gets one.
    """
    return ENVS[config.env].max_copies if config.env in ENVS else 1


def scripted_policies(config: AlgorithmConfig) -> dict[str, ScriptedPolicy]:
    """Returns the scripted policies of an environment.

    Args:
        config: See :func:`make_env`.

    Returns:
        Policies by name: ``random``, and those of an environment of this package.
    """
    if config.env in ENVS:
        return reference_policies(str(config.env), config.env_config)
    return {"random": RandomPolicy()}


def variants_of(config: AlgorithmConfig) -> list[AlgorithmConfig]:
    """Returns a configuration per entry of ``env_variants``, or the configuration.

    Args:
        config: A configuration.

    Returns:
        Configurations without variants.
    """
    if not config.env_variants:
        return [config]
    copies = []
    for change in config.env_variants:
        copy = config.copy(copy_frozen=False)
        copy.env_config = {**config.env_config, **change}
        copy.env_variants = []
        copies.append(copy)
    return copies


def _creator(env: Any) -> Callable[[EnvContext], Any]:
    if env is None:
        raise EnvConfigError("env: is missing. Name one, such as 'macn'.")
    if isinstance(env, str):
        creator = ray_internals.env_creator(env)
        if creator is not None:
            return creator
        raise EnvConfigError(
            f"env: unknown environment {env!r}.{suggest(env, ENVS)} Known:"
            f" {', '.join(ENVS)}. Your own: env: pettingzoo with env_config:"
            " {factory: 'pkg.module:parallel_env'}."
        )
    return env
