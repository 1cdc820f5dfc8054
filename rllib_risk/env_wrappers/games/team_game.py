"""The base class of the small games: simultaneous moves and one team reward."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv


class TeamGame(ParallelEnv):
    """A parallel env whose agents all get the same reward and end together.

    A subclass defines how an episode starts (`_start`), what a joint action does
    (`_play`) and the observations (`_views`, `state`). This class implements the rest
    of PettingZoo's interface.

    Attributes:
        episode_limit: Largest length of an episode in steps.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}
    render_mode = None

    def __init__(
        self,
        num_agents: int,
        num_actions: int | list[int],
        obs_space: spaces.Space,
        state_size: int,
        episode_limit: int,
    ) -> None:
        """Builds the spaces.

        Args:
            num_agents: Number of agents N; they are called agent_0, agent_1, ...
            num_actions: Number of actions: one for all agents, or a list with one per
                agent.
            obs_space: Observation space of every agent.
            state_size: Length of the state; its values lie in [0, 1].
            episode_limit: Largest length of an episode in steps.
        """
        self.possible_agents = [f"agent_{i}" for i in range(num_agents)]
        self.agents: list[str] = []
        if isinstance(num_actions, int):
            num_actions = [num_actions] * num_agents
        self.observation_spaces = {agent: obs_space for agent in self.possible_agents}
        self._num_actions = dict(zip(self.possible_agents, num_actions, strict=True))
        self.action_spaces: dict[str, spaces.Discrete] = {
            agent: spaces.Discrete(n) for agent, n in self._num_actions.items()
        }
        self.state_space = spaces.Box(0.0, 1.0, (state_size,), np.float32)
        self.episode_limit = episode_limit
        self._rng = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Space:
        """The space of one agent's observations."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Discrete:
        """The space of one agent's actions."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Starts an episode.

        Args:
            seed: Seed of all later draws; None: the generator continues.
            options: Not used.

        Returns:
            Observations and empty infos of all agents.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._start()
        views = self._views()
        return dict(zip(self.agents, views, strict=True)), self._for_all({})

    def step(
        self, actions: dict[str, int]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Plays one joint action.

        Args:
            actions: An action number for each agent.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            RuntimeError: If the episode has ended.
            ValueError: If an action does not exist.
        """
        if not self.agents:
            raise RuntimeError("the episode has ended: call reset() first")
        joint = []
        for agent in self.possible_agents:
            if not 0 <= actions[agent] < self._num_actions[agent]:
                raise ValueError(f"agent '{agent}' has no action {actions[agent]}")
            joint.append(int(actions[agent]))
        reward, terminated, info = self._play(joint)
        truncated = not terminated and self._is_out_of_time()
        if terminated or truncated:
            self.agents = []
        return (
            dict(zip(self.possible_agents, self._views(), strict=True)),
            self._for_all(float(reward)),
            self._for_all(terminated),
            self._for_all(truncated),
            {agent: dict(info) for agent in self.possible_agents},
        )

    def render(self) -> None:
        """Returns None; there are no pictures of these games."""

    def close(self) -> None:
        """Does nothing; the env holds no resources."""

    def _for_all(self, value: Any) -> dict[str, Any]:
        return {
            agent: dict(value) if isinstance(value, dict) else value
            for agent in self.possible_agents
        }

    @abstractmethod
    def _start(self) -> None:
        """Starts an episode; random numbers come from `self._rng`."""

    @abstractmethod
    def _play(self, joint: list[int]) -> tuple[float, bool, dict[str, Any]]:
        """Plays the joint action; returns reward, terminated and info."""

    def _is_out_of_time(self) -> bool:
        """Whether a time limit cuts the episode off after the last step."""
        return False

    @abstractmethod
    def _views(self) -> list[Any]:
        """The present observation of each agent."""
