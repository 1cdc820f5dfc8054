"""Adapter from a Gymnasium env with several agents to a `ParallelEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import positive
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.gymnasium_teams.joint import JointSpaces
from rllib_risk.env_wrappers.gymnasium_teams.making import make_by_factory, make_by_id
from rllib_risk.env_wrappers.parallel_env import in_short

# Attributes in which envs declare their time limit.
_LIMIT_ATTRIBUTES = ("episode_limit", "max_cycles")


class JointGymnasiumEnv(ParallelEnv):
    """A Gymnasium env whose `step` takes one action of each agent.

    Rewards and end flags are a list, a dict, or one value for all agents. An agent with
    a set flag leaves, and the episode ends when all agents have left. For an agent that
    has left, the env gets a fixed action.

    Attributes:
        gymnasium_env: The env, with Gymnasium's wrappers.
        episode_limit: Steps after which an episode is truncated; None if unknown.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "gymnasium",
        "render_modes": ["rgb_array"],
    }

    def __init__(
        self,
        env: gymnasium.Env,
        render_mode: str | None = None,
        episode_limit: int | None = None,
    ) -> None:
        """Reads the spaces of an env.

        Args:
            env: The env; `close` closes it too.
            render_mode: Render mode of the env.
            episode_limit: Time limit that the env was made with, in steps; None: the
                env's own limit.

        Raises:
            EnvConfigError: If the env does not have one space for each agent.
        """
        self.gymnasium_env = env
        self.render_mode = render_mode
        self._joint = JointSpaces(env)
        self.possible_agents = list(self._joint.agents)
        self.agents: list[str] = []
        self.episode_limit = _time_limit(env, episode_limit)
        self._steps = 0

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of one agent's observations."""
        return self._joint.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of one agent's actions."""
        return self._joint.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict]]:
        """Starts an episode.

        Args:
            seed: Seed for the env's reset().
            options: Options for the env's reset().

        Returns:
            Observations and infos by agent.

        Raises:
            EnvContractError: If the env does not return observations and an info.
        """
        result = self.gymnasium_env.reset(seed=seed, options=options)
        if not isinstance(result, tuple) or len(result) != 2:
            raise EnvContractError(
                f"reset() must return (observations, info), not {in_short(result)}"
            )
        self._steps = 0
        self.agents = list(self.possible_agents)
        observations = self._joint.split("observations", result[0])
        return observations, self._joint.split_info(result[1])

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict],
    ]:
        """Plays one joint action.

        Args:
            actions: Action of every agent that is in `agents`.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents
            that played.

        Raises:
            EnvContractError: If the env's result has the wrong form.
        """
        played, joint = self.agents, self._joint
        result = self.gymnasium_env.step(joint.joint_action(actions))
        if not isinstance(result, tuple) or len(result) != 5:
            raise EnvContractError(
                "step() must return (observations, rewards, terminated, truncated,"
                f" info), not {in_short(result)}"
            )
        self._steps += 1
        obs, rewards, terminated, truncated, info = result
        infos = joint.split_info(info)
        over, cut = (
            {agent: bool(flag) for agent, flag in joint.spread(name, flags).items()}
            for name, flags in (("terminated", terminated), ("truncated", truncated))
        )
        self._judge_ends(over, cut, infos)
        self.agents = [
            agent
            for agent in played
            if not (over.get(agent, False) or cut.get(agent, False))
        ]
        by_agent = (
            joint.split("observations", obs),
            joint.spread("rewards", rewards),
            over,
            cut,
            infos,
        )
        return tuple({a: v[a] for a in played if a in v} for v in by_agent)  # type: ignore[return-value]

    def render(self) -> np.ndarray | None:
        """The result of the env's own render()."""
        return self.gymnasium_env.render()  # type: ignore[return-value]

    def close(self) -> None:
        """Closes the env."""
        self.gymnasium_env.close()

    def _judge_ends(
        self,
        terminations: dict[str, bool],
        truncations: dict[str, bool],
        infos: dict[str, dict],
    ) -> None:
        """Corrects end flags and infos in place, for subclasses; by default a no-op."""


class GymnasiumTeam(JointGymnasiumEnv):
    """Any registered Gymnasium env with several agents, or one of your own."""

    def __init__(
        self,
        id: str | None = None,
        factory: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        episode_limit: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Makes the env.

        Args:
            id: Registered id; "module:id" imports the module that registers it.
            factory: Import path of a function that returns the env, such as
                "pkg.module:make"; used instead of an id.
            kwargs: Arguments of the env.
            episode_limit: Steps after which an episode is truncated; null: the env's
                own limit.
            render_mode: Render mode of the env, such as "rgb_array".

        Raises:
            EnvConfigError: If the env cannot be made, or does not have one space for
                each agent.
        """
        if (id is None) == (factory is None):
            raise EnvConfigError(
                "env 'gymnasium' needs env_config.id, such as"
                " lbforaging:Foraging-8x8-2p-2f-coop-v3, or env_config.factory, such as"
                " pkg.module:make. Give one of them"
            )
        if not isinstance(id if factory is None else factory, str):
            raise EnvConfigError("env_config.id and factory must be texts")
        make, name = (make_by_id, id) if factory is None else (make_by_factory, factory)
        limit = limit_of(episode_limit)
        env = make(str(name), arguments_of(kwargs), render_mode, limit)
        super().__init__(env, render_mode, limit)


def arguments_of(kwargs: Any) -> dict[str, Any]:
    """Checks `env_config.kwargs`.

    Args:
        kwargs: A mapping of argument names, or None.

    Returns:
        The arguments.

    Raises:
        EnvConfigError: If the value is neither a mapping nor None.
    """
    if not isinstance(kwargs or {}, Mapping):
        raise EnvConfigError("env_config.kwargs must be a mapping of argument names")
    return dict(kwargs or {})


def limit_of(episode_limit: Any) -> int | None:
    """Checks `env_config.episode_limit`.

    Args:
        episode_limit: A number of steps, or None.

    Returns:
        The value.

    Raises:
        EnvConfigError: If the value is neither a positive integer nor None.
    """
    if episode_limit is None:
        return None
    return positive("env_config.episode_limit", episode_limit)


def _time_limit(env: gymnasium.Env, given: int | None) -> int | None:
    """The smallest known limit: the given one, the registered one or an attribute."""
    limits = [given, env.spec.max_episode_steps if env.spec else None]
    limits += [getattr(env.unwrapped, key, None) for key in _LIMIT_ATTRIBUTES]
    found = [n for n in limits if isinstance(n, int) and n is not True and n > 0]
    return min(found, default=None)
