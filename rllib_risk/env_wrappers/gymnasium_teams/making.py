"""Makes a Gymnasium env by its registered id, or by a factory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from rllib_risk.config.imports import import_module, import_path
from rllib_risk.env_wrappers.arguments import check_arguments
from rllib_risk.env_wrappers.errors import EnvConfigError


def make_by_id(
    env_id: str,
    kwargs: Mapping[str, Any],
    render_mode: str | None = None,
    episode_limit: int | None = None,
) -> gymnasium.Env:
    """Makes a registered env.

    Args:
        env_id: Id of the env. `module:id` first imports the module that registers it.
        kwargs: Arguments of the env; they replace the registered ones.
        render_mode: Render mode of the env; None: the registered one.
        episode_limit: Time limit in steps; None: the registered one.

    Returns:
        The env, without Gymnasium's checks, which are made for one agent.

    Raises:
        EnvConfigError: If there is no such env, or it does not take one of the
            arguments.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(
            module, "env_config.id", of=f" of {env_id!r}", error=EnvConfigError
        )
    try:
        spec: EnvSpec = copy.deepcopy(gymnasium.spec(name))
    except gymnasium.error.Error as error:
        hint = ""
        if not module:
            hint = f" If a package registers it, name its module: 'module:{name}'"
        text = str(error).rstrip(".")
        raise EnvConfigError(f"env_config.id: {text}.{hint}") from error
    check_arguments(_creator(spec), kwargs, "env_config.kwargs")
    spec.kwargs = {**spec.kwargs, **kwargs}
    if episode_limit is not None:
        spec.max_episode_steps = episode_limit
    if render_mode is not None:
        spec.kwargs["render_mode"] = render_mode
    # Gymnasium's checks are made for one agent and warn of lists.
    return gymnasium.make(spec, disable_env_checker=True)


def make_by_factory(
    path: str,
    kwargs: Mapping[str, Any],
    render_mode: str | None = None,
    episode_limit: int | None = None,
) -> gymnasium.Env:
    """Makes an env by calling a factory.

    Args:
        path: Import path of the factory, `pkg.module:callable`.
        kwargs: Arguments of the factory.
        render_mode: Argument of the factory too, if it is not None.
        episode_limit: Steps after which an episode is truncated; None: the env's own
            limit.

    Returns:
        The env.

    Raises:
        EnvConfigError: If the factory cannot be imported, does not take one of the
            arguments, or does not return a Gymnasium env.
    """
    factory = import_path(path, "env_config.factory", error=EnvConfigError)
    check_arguments(factory, kwargs, "env_config.kwargs")
    given = {} if render_mode is None else {"render_mode": render_mode}
    env = factory(**kwargs, **given)
    if not isinstance(env, gymnasium.Env):
        raise EnvConfigError(
            f"env_config.factory: {path!r} returned {type(env).__name__}, not a"
            " gymnasium.Env. For a PettingZoo env use env: pettingzoo"
        )
    if episode_limit is not None:
        return gymnasium.wrappers.TimeLimit(env, episode_limit)
    return env


def _creator(spec: EnvSpec) -> Callable[..., Any]:
    """The callable that makes a registered env."""
    if not isinstance(spec.entry_point, str):
        if spec.entry_point is None:
            raise EnvConfigError(
                f"env_config.id: {spec.id} is registered without an entry point, so it"
                " is for vectorised envs alone"
            )
        return spec.entry_point
    try:
        return load_env_creator(spec.entry_point)
    except (ImportError, AttributeError) as error:
        raise EnvConfigError(
            f"env_config.id: {spec.id} is registered with {spec.entry_point!r}, which"
            f" cannot be imported: {error}"
        ) from error
