"""From the ``env`` of a configuration to team environments."""

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
from rllib_risk.env_wrappers.joined_envs import join_envs
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
        context: What the creator of a registered environment gets; made if missing.

    Returns:
        The environment.

    Raises:
        EnvConfigError: If there is no such environment, or it is no team environment.
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
    """Like :func:`make_env`, for simulators that fail or hang now and then.

    Args:
        config: See :func:`make_env`; ``max_env_restarts`` bounds the attempts, and
            ``env_timeout_s`` each of them and every call of the environment.
        context: See :func:`make_env`.

    Returns:
        The environment. Its ``close`` is bounded too and raises nothing.

    Raises:
        EnvConfigError: If there is no such environment, or it is no team environment.
        EnvFailedError: If it failed ``max_env_restarts`` times in a row.
    """
    watchdog = Watchdog(env_name(config), config.env_timeout_s)
    failures = EnvFailures(env_name(config), 1, config.max_env_restarts)
    make = partial(make_env, config, context)
    return failures.retry(
        [0], partial(watchdog.build, 0, make), partial(watchdog.end, 0)
    )


def env_name(config: AlgorithmConfig) -> str:
    """The env of a configuration, as messages name it."""
    if config.env in ENVS:
        return env_title(str(config.env), config.env_config)
    return str(config.env)


class TeamSpaces(gymnasium.Env):
    """What RLlib gets instead of an environment: it reads the spaces and never steps.

    RLlib builds and resets an environment of its own in every runner, and plays no
    episode in it. With a simulator that would be one more process in each runner.

    Attributes:
        spec_team: Sizes of the team.
    """

    def __init__(self, env: TeamEnv) -> None:
        """Reads the sizes off an environment.

        Args:
            env: The environment; it may be closed afterwards.
        """
        self.spec_team = env.spec_team
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """RLlib seeds every environment in this way.

        Args:
            seed: Unused.
            options: Unused.

        Returns:
            Zeros, and no info.
        """
        zeros = {
            key: np.zeros(space.shape, space.dtype)
            for key, space in self.observation_space.items()  # type: ignore[attr-defined]
        }
        return zeros, {}


def team_spaces_of(config: AlgorithmConfig) -> TeamSpaces:
    """Builds an environment once to read its sizes.

    Args:
        config: See :func:`start_env`.

    Returns:
        Its spaces; they can be sent to other processes.

    Raises:
        EnvConfigError: See :func:`start_env`.
        EnvFailedError: See :func:`start_env`.
    """
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
        config: See :func:`make_env`. With ``env_variants`` each of them gets the same
            number of environments.
        num_envs: How many.
        context: What the creator of a registered environment gets.

    Returns:
        The environment's own vectorised twin where there is one, else a loop.
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
            max_restarts=config.max_env_restarts,
            timeout_s=config.env_timeout_s,
        )
        return guarded(
            make,
            num_envs,
            max_restarts=config.max_env_restarts,
            env_name=env_name(config),
        )
    return loop_over(config, lambda: make_env(config, context), num_envs)


def loop_over(
    config: AlgorithmConfig, make: Callable[[], TeamEnv], num_envs: int = 1
) -> LoopedTeamEnvs:
    """Steps environments in a loop, with the configuration's limits for failures.

    Args:
        config: Its ``max_env_restarts`` and ``env_timeout_s`` count.
        make: Makes one environment.
        num_envs: How many.

    Returns:
        The environments.
    """
    return LoopedTeamEnvs(
        make,
        num_envs,
        max_restarts=config.max_env_restarts,
        env_name=env_name(config),
        timeout_s=config.env_timeout_s,
    )


def scripted_policies(config: AlgorithmConfig) -> dict[str, ScriptedPolicy]:
    """The scripted policies of an environment.

    Args:
        config: See :func:`make_env`.

    Returns:
        By name: ``random``, and what an environment of this package offers.
    """
    if config.env in ENVS:
        return reference_policies(str(config.env), config.env_config)
    return {"random": RandomPolicy()}


def variants_of(config: AlgorithmConfig) -> list[AlgorithmConfig]:
    """One configuration per entry of ``env_variants``, or the configuration itself.

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
