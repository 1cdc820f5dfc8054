"""VMAS: physical tasks for teams, in torch.

Source: M. Bettini, R. Kortvelesy, J. Blumenkamp, A. Prorok, "VMAS: A Vectorized
Multi-Agent Simulator for Collective Robot Learning", DARS 2022. This env steps the
package `vmas` unchanged, with discrete actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from pettingzoo import ParallelEnv

from rllib_risk.env_wrappers.arguments import positive
from rllib_risk.env_wrappers.errors import EnvConfigError, IllegalActionError
from rllib_risk.env_wrappers.vmas.core import VmasCore, numbers_of_copy

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.batched_env import BatchedTeamEnv


class VMAS(ParallelEnv, EzPickle):
    """One copy of a VMAS scenario.

    VMAS numbers the actions: one for each combination of the choices per dimension; 0
    is to stay. There is no global state. All agents leave when the scenario is done
    (terminated) or the time limit is reached (truncated).

    Infos of every step: the numbers that the scenario reports for each agent.

    Attributes:
        episode_limit: Steps after which an episode is truncated.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "vmas", "render_modes": []}

    # Keys that the vectorised twin accepts in addition to those of every twin.
    batched_keys: ClassVar[tuple[str, ...]] = ("team_reward",)

    def __init__(
        self,
        scenario: str = "balance",
        episode_limit: int = 100,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Makes the scenario.

        Args:
            scenario: A scenario of VMAS, such as balance, transport, navigation or
                wheel.
            episode_limit: Steps after which an episode is truncated.
            kwargs: Arguments of the scenario, such as {n_agents: 4}.

        Raises:
            EnvConfigError: If VMAS is missing or an argument is wrong.
        """
        EzPickle.__init__(self, scenario, episode_limit, kwargs)
        self.episode_limit = positive("env_config.episode_limit", episode_limit)
        self._core = VmasCore(scenario, 1, episode_limit, checked_kwargs(kwargs))
        self.possible_agents = list(self._core.agents)
        self.agents: list[str] = []
        self.observation_spaces = {
            agent: spaces.Box(-np.inf, np.inf, (size,), np.float32)
            for agent, size in zip(self._core.agents, self._core.obs_sizes, strict=True)
        }
        self.action_spaces: dict[str, spaces.Space] = {
            agent: spaces.Discrete(n)
            for agent, n in zip(self._core.agents, self._core.num_actions, strict=True)
        }

    @staticmethod
    def batched(num_envs: int, **env_config: Any) -> BatchedTeamEnv:
        """The vectorised twin: many copies in one call; see `BatchedVMAS`."""
        from rllib_risk.env_wrappers.vmas.batched import BatchedVMAS

        return BatchedVMAS(num_envs, **env_config)

    @staticmethod
    def adapter_defaults(**env_config: Any) -> dict[str, Any]:
        """Defaults of the adapter: the mean of the agents' rewards, as in BenchMARL."""
        return {"team_reward": "mean"}

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of one agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        """The space of one agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
        """Begins an episode.

        Args:
            seed: Seed of the start and of later random numbers; None: a random seed.
            options: Not used.

        Returns:
            Observations and infos by agent.
        """
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        obs = self._core.reset([0], [seed])
        self.agents = list(self.possible_agents)
        return self._by_agent(obs), {agent: {} for agent in self.agents}

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, np.ndarray],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict],
    ]:
        """Plays one joint action.

        Args:
            actions: Action of every agent.

        Returns:
            Observations, rewards, terminations, truncations and infos by agent.

        Raises:
            IllegalActionError: If no episode is running.
        """
        if not self.agents:
            raise IllegalActionError("the episode is over: call reset() first")
        agents = self.agents
        chosen = np.array([[int(actions[agent]) for agent in agents]])
        obs, step = self._core.step(chosen)
        terminated = bool(step.terminateds[0])
        truncated = bool(step.truncateds[0]) and not terminated
        if terminated or truncated:
            self.agents = []
        rewards = step.rewards[0].tolist()
        infos = [numbers_of_copy(info, 0) for info in step.infos]
        return (
            self._by_agent(obs),
            dict(zip(agents, rewards, strict=True)),
            dict.fromkeys(agents, terminated),
            dict.fromkeys(agents, truncated),
            dict(zip(agents, infos, strict=True)),
        )

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    def _by_agent(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        sizes = self._core.obs_sizes
        return {
            agent: obs[0, i, : sizes[i]].copy()
            for i, agent in enumerate(self.possible_agents)
        }


def checked_kwargs(kwargs: Any) -> dict[str, Any]:
    """Checks `env_config.kwargs`.

    Args:
        kwargs: A mapping of arguments of the scenario, or None.

    Returns:
        The arguments.

    Raises:
        EnvConfigError: If it is not a mapping, or holds an argument that only this
            adapter sets.
    """
    if not isinstance(kwargs or {}, Mapping):
        raise EnvConfigError("env_config.kwargs must be a mapping of argument names")
    for key in kwargs or {}:
        if key in _FIXED:
            raise EnvConfigError(
                f"env_config.kwargs.{key}: the adapter sets this argument of VMAS."
                " Time limits are env_config.episode_limit, and copies are"
                " num_envs_per_env_runner"
            )
    return dict(kwargs or {})


# Arguments of `vmas.make_env` that are not the scenario's.
_FIXED = (
    "scenario",
    "num_envs",
    "device",
    "continuous_actions",
    "wrapper",
    "max_steps",
    "seed",
    "dict_spaces",
    "multidiscrete_actions",
    "clamp_actions",
    "grad_enabled",
    "terminated_truncated",
    "wrapper_kwargs",
)
