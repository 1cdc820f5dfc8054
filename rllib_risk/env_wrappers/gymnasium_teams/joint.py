"""Splits the results of a Gymnasium env with several agents by agent.

Such an env has one `step` for all agents. EPyMARL calls this form "gymma": spaces are
`Tuple`s with one space for each agent, observations and rewards are lists. Spaces may
also be `Dict`s with one space for each agent; the keys are the agents' names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.parallel_env import in_short


class JointSpaces:
    """The agents of a Gymnasium env and their spaces; splits its results by agent.

    Attributes:
        agents: `agent_0`, `agent_1`, ..., or the keys of the `Dict` spaces.
        observation_spaces: The observation space of each agent.
        action_spaces: The action space of each agent.
    """

    def __init__(self, env: gymnasium.Env) -> None:
        """Reads the spaces.

        Args:
            env: The env. Its spaces are two `Tuple`s of N spaces, or two `Dict`s with
                the same N keys.

        Raises:
            EnvConfigError: If the spaces have another form.
        """
        observed, played = env.observation_space, env.action_space
        self._named = isinstance(observed, spaces.Dict)
        if isinstance(observed, spaces.Tuple) and isinstance(played, spaces.Tuple):
            names = [f"agent_{i}" for i in range(len(observed.spaces))]
            fits = 0 < len(names) == len(played.spaces)
            parts = [list(observed.spaces), list(played.spaces)]
        elif isinstance(observed, spaces.Dict) and isinstance(played, spaces.Dict):
            names = [*observed.spaces]
            fits = bool(names) and set(names) == set(played.spaces)
            parts = [[space.spaces[n] for n in names] for space in (observed, played)]
        else:
            fits = False
        if not fits:
            raise EnvConfigError(
                f"{type(env.unwrapped).__name__} has observation space {observed} and"
                f" action space {played}. A team needs one space for each agent in"
                " both: two Tuples of the same length, or two Dicts with the agents as"
                " keys. For a PettingZoo env use env: pettingzoo"
            )
        self.agents = names
        self.observation_spaces = dict(zip(names, parts[0], strict=True))
        self.action_spaces = dict(zip(names, parts[1], strict=True))
        self._idle = {name: _first_action(s) for name, s in self.action_spaces.items()}

    def joint_action(self, actions: Mapping[str, Any]) -> Any:
        """Builds the joint action for the env's `step`.

        Args:
            actions: Actions of the agents that play. The others get a fixed action of
                their space, because the env expects an action of every agent.

        Returns:
            A tuple in the order of the agents, or a dict.
        """
        whole = {agent: actions.get(agent, self._idle[agent]) for agent in self.agents}
        return whole if self._named else tuple(whole.values())

    def split(self, what: str, value: Any) -> dict[str, Any]:
        """Splits a value into one entry for each agent.

        Args:
            what: Name of the value, for error texts.
            value: A list, tuple or array with one entry for each agent, or a dict. A
                dict may leave agents out.

        Returns:
            The entries by agent.

        Raises:
            EnvContractError: If the value has another form.
        """
        if isinstance(value, Mapping):
            if value.keys() <= set(self.agents):
                return dict(value)
            odd = sorted(str(key) for key in value.keys() - set(self.agents))
            raise EnvContractError(
                f"the {what} hold the key '{odd[0]}', and the agents are"
                f" {', '.join(self.agents)}"
            )
        if self._one_each(value):
            return dict(zip(self.agents, value, strict=True))
        raise EnvContractError(
            f"the {what} must be a list with one entry for each of the"
            f" {len(self.agents)} agents, or a dict, not {in_short(value)}"
        )

    def spread(self, what: str, value: Any) -> dict[str, Any]:
        """Splits a value as `split` does, or repeats one number for every agent.

        Args:
            what: See `split`.
            value: See `split`; a number or flag counts for every agent.

        Returns:
            The entries by agent.

        Raises:
            EnvContractError: See `split`.
        """
        if np.ndim(value) == 0 and not isinstance(value, Mapping):
            return dict.fromkeys(self.agents, value)
        return self.split(what, value)

    def split_info(self, info: Any) -> dict[str, dict[str, Any]]:
        """Splits the env's info into one info for each agent.

        Args:
            info: A dict. A value that is a dict by agent, or holds one entry for each
                agent, is split by agent. A key that names an agent holds the info of
                that agent. Every agent gets all other entries.

        Returns:
            An info for each agent.

        Raises:
            EnvContractError: If the info is not a dict.
        """
        if not isinstance(info, Mapping):
            raise EnvContractError(f"the info must be a dict, not {in_short(info)}")
        infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        for key, value in info.items():
            if key in infos and isinstance(value, Mapping):
                infos[key].update(value)
                continue
            by_agent = isinstance(value, Mapping) and value.keys() == infos.keys()
            if by_agent or self._one_each(value):
                shares = self.split("info", value)
            else:
                shares = dict.fromkeys(self.agents, value)
            for agent, share in shares.items():
                infos[agent][key] = share
        return infos

    def _one_each(self, value: Any) -> bool:
        whole = isinstance(value, list | tuple | np.ndarray) and np.ndim(value) != 0
        return whole and len(value) == len(self.agents)


def _first_action(space: spaces.Space) -> Any:
    """A fixed action of a space."""
    if isinstance(space, spaces.Discrete):
        return int(space.start)
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape, space.dtype), space.low, space.high)
    return None  # the adapter refuses these spaces
