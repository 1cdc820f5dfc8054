"""What the adapter reads off a `ParallelEnv`: its agents, state, limit and infos."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.errors import EnvConfigError


def agent_ids(env: ParallelEnv) -> list[Any]:
    """The env's own agent ids, in the order of `possible_agents`.

    Args:
        env: What a factory returned.

    Returns:
        All agents that can appear.

    Raises:
        EnvConfigError: If this is no PettingZoo ParallelEnv.
    """
    for method in ("reset", "step", "observation_space", "action_space"):
        if not callable(getattr(env, method, None)):
            raise EnvConfigError(
                f"{type(env).__name__} has no {method}(): a PettingZoo ParallelEnv is "
                "needed (for an AEC env use pettingzoo.utils.aec_to_parallel)"
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


def env_state(env: ParallelEnv) -> Any:
    """Calls env.state().

    Args:
        env: The env, after a reset.

    Returns:
        What state() returned.

    Raises:
        EnvConfigError: If the env has no working state().
    """
    try:
        return env.state()
    except (NotImplementedError, AttributeError) as error:
        raise EnvConfigError(
            f"env_config.state asks for the env's own state, but state() of "
            f"{type(env.unwrapped).__name__} does not work ({error}): implement "
            "state(), or set env_config.state to concat_obs or none"
        ) from error


def state_source(env: ParallelEnv, state: str) -> tuple[str, int]:
    """Decides where the state comes from.

    Args:
        env: The env.
        state: "auto", "env", "concat_obs" or "none".

    Returns:
        The source with "auto" resolved, and the size of the env's own state (0 if it
        is not the source).

    Raises:
        EnvConfigError: If the env's own state is asked for and there is none.
    """
    if state in ("concat_obs", "none"):
        return state, 0
    own = getattr(type(env.unwrapped), "state", ParallelEnv.state)
    if state == "auto" and own is ParallelEnv.state:
        return "none", 0
    space = getattr(env, "state_space", None)
    if isinstance(space, spaces.Space):
        return "env", int(spaces.flatdim(space))
    # Only a state seen once tells its size; an env may need a reset before it has one.
    try:
        env.reset(seed=0)
        return "env", int(np.asarray(env_state(env)).size)
    except EnvConfigError:
        if state == "auto":
            return "none", 0
        raise


def episode_limit(env: ParallelEnv) -> int | None:
    """The env's declared time limit in steps, or None."""
    for owner in (env, env.unwrapped):
        for key in ("episode_limit", "max_cycles"):
            limit = getattr(owner, key, None)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                return limit
    return None


def merge_infos(infos: dict[Any, Any], played: list[Any]) -> dict[str, Any]:
    """The numbers and flags of all agents' infos as one info for the team."""
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
