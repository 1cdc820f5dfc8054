"""PettingZoo environments for RLlib's own multi-agent algorithms.

The algorithms of this package see a team as one agent. RLlib's own algorithms, such as
PPO, see every agent separately. To use this module, name it under ``imports:`` in a
training file. It registers the env ``pettingzoo_agents``, which takes the same
``factory`` and ``kwargs`` as ``pettingzoo``. :func:`own_policy` can be the
``policy_mapping_fn``.

RLlib's own runners play this env. So it has neither the watchdog (``env_timeout_s``)
nor the rules for crashes of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.rllib.env.wrappers.pettingzoo_env import ParallelPettingZooEnv
from ray.tune import register_env

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import import_factory

NAME = "pettingzoo_agents"


def make_agents_env(env_config: Mapping[str, Any]) -> ParallelPettingZooEnv:
    """Builds a PettingZoo parallel env for RLlib's own algorithms.

    Args:
        env_config: ``factory``, the env's import path ``pkg.module:callable``, and
            ``kwargs``, its arguments.

    Returns:
        The env.

    Raises:
        EnvConfigError: If the factory is missing or a key is unknown.
    """
    rest = dict(env_config)
    factory, kwargs = rest.pop("factory", None), rest.pop("kwargs", None) or {}
    if factory is None or rest:
        what = f"unknown key '{next(iter(rest))}'" if rest else "factory is missing"
        raise EnvConfigError(
            f"env_config: {what}. {NAME} takes factory, 'pkg.module:parallel_env', and"
            " kwargs."
        )
    return ParallelPettingZooEnv(import_factory(factory)(**kwargs))


def own_policy(agent_id: str, *arguments: Any, **others: Any) -> str:
    """A ``policy_mapping_fn`` that gives each agent its own policy.

    Args:
        agent_id: Name of the agent.
        *arguments: RLlib's further arguments.
        **others: RLlib's further arguments.

    Returns:
        The agent's name, which is also the name of its policy.
    """
    return agent_id


register_env(NAME, make_agents_env)
