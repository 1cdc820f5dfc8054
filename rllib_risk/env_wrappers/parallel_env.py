"""Reads a `ParallelEnv` for the adapter, and checks what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError

_RESET_RETURNS = ("observations", "infos")
_STEP_RETURNS = ("observations", "rewards", "terminations", "truncations", "infos")
# Largest number of characters of a value in an error text.
_LONGEST = 60


def agent_ids(env: ParallelEnv) -> list[Any]:
    """The env's own agent ids, in the order of `possible_agents`.

    Args:
        env: The env that a factory returned.

    Returns:
        All agents that can appear.

    Raises:
        EnvConfigError: If this is not a PettingZoo ParallelEnv.
    """
    for method in ("reset", "step", "observation_space", "action_space"):
        if not callable(getattr(env, method, None)):
            raise EnvConfigError(
                f"{type(env).__name__} has no {method}(): use a PettingZoo ParallelEnv "
                "(convert an AEC env with pettingzoo.utils.aec_to_parallel)"
            )
    if hasattr(env, "agent_iter"):
        raise EnvConfigError(
            f"{type(env).__name__} is an AEC env, where agents move in turn: use the "
            "module's parallel_env(), or pettingzoo.utils.aec_to_parallel"
        )
    agents = list(getattr(env, "possible_agents", None) or [])
    if not agents:
        raise EnvConfigError(
            f"{type(env).__name__} has no possible_agents: set it in __init__ to the "
            "list of all agents that can appear"
        )
    return agents


def check_reset_arguments(env: ParallelEnv) -> None:
    """Raises if reset() of an env does not take `seed` and `options`.

    Args:
        env: The env.

    Raises:
        EnvConfigError: If it does not take them.
    """
    try:
        inspect.signature(env.reset).bind(seed=None, options=None)
    except ValueError:  # a built-in function has no signature
        return
    except TypeError as error:
        raise EnvConfigError(
            f"reset() of {type(env.unwrapped).__name__} cannot be called as "
            f"reset(seed=..., options=...): {error}. Give it the parameters seed=None "
            "and options=None"
        ) from error


def read_reset(result: Any, ids: set[Any]) -> tuple[Any, Any]:
    """Checks the form of the result of reset().

    Args:
        result: The result.
        ids: All agents that can appear.

    Returns:
        Observations and infos by agent.

    Raises:
        EnvContractError: If the form is wrong.
    """
    obs, infos = _unpacked("reset", result, _RESET_RETURNS, ids)
    return obs, infos


def read_step(result: Any, ids: set[Any]) -> tuple[Any, Any, Any, Any, Any]:
    """Checks the form of the result of step().

    Args:
        result: The result.
        ids: All agents that can appear.

    Returns:
        Observations, rewards, terminations, truncations and infos by agent. The flags
        are of type bool.

    Raises:
        EnvContractError: If the form is wrong.
    """
    obs, rewards, terminations, truncations, infos = _unpacked(
        "step", result, _STEP_RETURNS, ids
    )
    return (
        obs,
        rewards,
        {a: _flag(a, "termination", flag) for a, flag in terminations.items()},
        {a: _flag(a, "truncation", flag) for a, flag in truncations.items()},
        infos,
    )


def read_rewards(rewards: Mapping[Any, Any], played: Sequence[Any]) -> list[float]:
    """The rewards of the agents that acted.

    Args:
        rewards: Rewards by agent, from the env.
        played: The agents that acted.

    Returns:
        One number per agent that acted.

    Raises:
        EnvContractError: If a reward is missing or is not a number.
    """
    values = []
    for agent in played:
        if agent not in rewards:
            raise EnvContractError(f"agent '{agent}' acted but got no reward")
        value = rewards[agent]
        if not isinstance(value, (float, int, np.number, np.bool_)):
            array = numeric(value)
            if array is None or array.size != 1:
                raise EnvContractError(
                    f"the reward of agent '{agent}' must be a number, not "
                    f"{in_short(value)}"
                )
            value = array.item()
        values.append(float(value))
    return values


def env_state(env: ParallelEnv) -> Any:
    """Calls env.state().

    Args:
        env: The env, after a reset.

    Returns:
        The result of state().

    Raises:
        EnvConfigError: If the env has no working state().
    """
    try:
        return env.state()
    except (NotImplementedError, AttributeError) as error:
        raise EnvConfigError(
            f"env_config.state requires the env's own state, but state() of "
            f"{type(env.unwrapped).__name__} does not work ({error}): implement "
            "state(), or set env_config.state to concat_obs or none"
        ) from error


def state_source(env: ParallelEnv, state: str) -> tuple[str, int]:
    """Decides the source of the state.

    Args:
        env: The env.
        state: "auto", "env", "concat_obs" or "none".

    Returns:
        The source with "auto" resolved, and the size of the env's own state (0 if it
        is not the source).

    Raises:
        EnvConfigError: If `state` is "env" and the env has no working state().
    """
    if state in ("concat_obs", "none"):
        return state, 0
    own = getattr(type(env.unwrapped), "state", ParallelEnv.state)
    if state == "auto" and own is ParallelEnv.state:
        return "none", 0
    space = getattr(env, "state_space", None)
    if isinstance(space, spaces.Space):
        return "env", int(spaces.flatdim(space))
    # Without a state_space, the size is known only from a state, which needs a reset.
    try:
        env.reset(seed=0)
        return "env", int(np.asarray(env_state(env)).size)
    except EnvConfigError:
        if state == "auto":
            return "none", 0
        raise


def episode_limit(env: ParallelEnv) -> int | None:
    """The time limit that the env declares, in steps, or None."""
    for owner in (env, env.unwrapped):
        for key in ("episode_limit", "max_cycles"):
            limit = getattr(owner, key, None)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                return limit
    return None


def merge_infos(infos: dict[Any, Any], played: list[Any]) -> dict[str, Any]:
    """Merges numbers and flags in the infos of agents that acted into one info."""
    columns: dict[str, list[Any]] = {}
    for source in [*played, "common"]:  # PettingZoo allows an extra key "common"
        for key, value in (infos.get(source) or {}).items():
            if isinstance(value, bool | int | float | np.number | np.bool_):
                columns.setdefault(key, []).append(value)
    merged: dict[str, Any] = {}
    for key, values in columns.items():
        if all(isinstance(value, bool | np.bool_) for value in values):
            merged[key] = all(bool(value) for value in values)
        elif all(value == values[0] for value in values):
            merged[key] = values[0]
        else:
            merged[key] = float(np.mean(values))
    return merged


def _unpacked(
    method: str, result: Any, names: tuple[str, ...], ids: set[Any]
) -> tuple[Any, ...]:
    """Checks that a method returned one dict of agents for each name."""
    whole = isinstance(result, (tuple, list))
    if not whole or len(result) != len(names):
        got = f"{len(result)} values" if whole else in_short(result)
        raise EnvContractError(
            f"{method}() must return ({', '.join(names)}), but returned {got}"
        )
    for name, values in zip(names, result, strict=True):
        # `dict` first: most values are dicts, and a check for Mapping takes longer.
        if not isinstance(values, (dict, Mapping)):
            raise EnvContractError(
                f"{method}() must return a dict of agents as {name}, not "
                f"{in_short(values)}"
            )
        if name == "infos":  # PettingZoo allows an extra key "common"
            for agent, info in values.items():
                if not isinstance(info, (dict, Mapping, NoneType)):
                    raise EnvContractError(
                        f"the info of agent '{agent}' must be a dict, not "
                        f"{in_short(info)}"
                    )
        elif not values.keys() <= ids:
            odd = sorted(map(str, values.keys() - ids))
            raise EnvContractError(
                f"{method}() returned {name} of '{odd[0]}', which is not in "
                "possible_agents"
            )
    return tuple(result)


def _flag(agent: Any, name: str, value: Any) -> bool:
    """An end flag as a bool."""
    if value is True or value is False:
        return value
    if isinstance(value, (np.bool_, int)):
        return bool(value)
    array = numeric(value)
    if array is None or array.size != 1:
        raise EnvContractError(
            f"the {name} flag of agent '{agent}' must be true or false, not "
            f"{in_short(value)}"
        )
    return bool(array.item())


def numeric(value: Any) -> np.ndarray | None:
    """`value` as an array of numbers; None if it holds something else."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    return array if array.dtype.kind in "biuf" else None


def in_short(value: Any) -> str:
    """A value as one short line, for error texts."""
    text = " ".join(repr(value).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return text if value is None else f"{text} ({type(value).__name__})"
