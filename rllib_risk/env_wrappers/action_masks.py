"""Finds and checks the agents' action masks in observations and infos.

An entry is a mask if its name is `action_mask` (or the value of `action_mask_key`); it
must then have one number per action. This module also finds entries under other names
that look like masks, and warns of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_risk.env_wrappers.errors import EnvConfigError, EnvContractError
from rllib_risk.env_wrappers.notices import tell

ACTION_MASK = "action_mask"

# Names that simulators use for masks: avail_actions, legal_moves, mask, ...
_MASK_NAME = re.compile(r"mask|avail|legal|valid|allowed|possible_actions", re.I)


def check_mask_key(key: Any) -> str:
    """Checks `env_config.action_mask_key`.

    Args:
        key: Value of the key.

    Returns:
        The value.

    Raises:
        EnvConfigError: If it is not a name.
    """
    if not isinstance(key, str) or not key:
        raise EnvConfigError(
            "env_config.action_mask_key must be the name of an entry, such as"
            f" avail_actions, not {key!r}"
        )
    return key


def without_mask(
    agent: str, space: spaces.Space, key: str, num_actions: int
) -> spaces.Dict | None:
    """Removes the action mask from an observation space.

    Args:
        agent: Name of the agent, for error texts.
        space: Its observation space.
        key: Name of the mask's entry.
        num_actions: Number of its actions.

    Returns:
        The space without the mask's entry; None if there is no mask in it.

    Raises:
        EnvConfigError: If the entry does not have one number per action, or if there is
            no other entry.
    """
    if not isinstance(space, spaces.Dict) or key not in space.spaces:
        return None
    shape = space.spaces[key].shape
    size = None if shape is None else int(np.prod(shape))
    if size != num_actions:
        raise EnvConfigError(
            f"agent '{agent}' has {num_actions} actions, but entry '{key}' of its"
            f" observation space is {space.spaces[key]}: a mask needs one number per"
            " action, 1 for a legal one. If the entry is not a mask, rename it"
        )
    rest = {name: part for name, part in space.spaces.items() if name != key}
    if not rest:
        raise EnvConfigError(
            f"the observation space of agent '{agent}' holds only '{key}': add an entry"
            " with what the agent observes"
        )
    return spaces.Dict(rest)


def legal_actions(agent: str, key: str, mask: Any, num_actions: int) -> np.ndarray:
    """Checks a mask and returns which actions are legal.

    Args:
        agent: Name of the agent, for error texts.
        key: Name of the mask's entry, for error texts.
        mask: The mask from the env.
        num_actions: Number of the agent's actions, A.

    Returns:
        Flags, bool [A].

    Raises:
        EnvContractError: If the mask does not hold one 0 or 1 per action.
    """
    values = np.asarray(mask).reshape(-1)
    if values.shape != (num_actions,):
        raise EnvContractError(
            f"agent '{agent}' has {num_actions} actions but its {key} has {values.size}"
            " entries: give one per action, 1 for a legal one and 0 for the others"
        )
    legal = values == 1
    if not (legal | (values == 0)).all():
        raise EnvContractError(
            f"the {key} of agent '{agent}' holds {values[~legal & (values != 0)][0]!s}:"
            " a mask holds 1 for a legal action and 0 for the others"
        )
    return legal


class MaskSearch:
    """Searches for an env's action masks.

    Attributes:
        key: Name of the mask's entry.
        source: Place of the masks: "observation" if any agent has one there, else
            "info", else "none".
        mask_like: Names of other entries that look like masks; they are not used.
    """

    def __init__(self, key: str, unmasked: Mapping[Any, int], in_obs: bool) -> None:
        """Prepares the search.

        Args:
            key: Name of the mask's entry.
            unmasked: Number of actions of each agent whose observation space holds no
                mask.
            in_obs: Whether any observation space holds a mask.
        """
        self.key = key
        self.source = "observation" if in_obs else "none"
        self.mask_like: list[str] = []
        self._unmasked = dict(unmasked)

    def warn_of_other_names(self, *sources: Any) -> None:
        """Records entries that look like masks under another name; warns once.

        Args:
            sources: Observation spaces, observations or infos, by agent.
        """
        before = len(self.mask_like)
        for agent, num_actions in self._unmasked.items():
            for source in sources:
                for name in _mask_like_entries(_of(source, agent), num_actions):
                    if name not in self.mask_like:
                        self.mask_like.append(name)
        if len(self.mask_like) > before:
            tell(f"masks {self.mask_like}", _mask_like_message(self.mask_like))

    def check_reset(self, obs: Any, infos: Any) -> None:
        """Searches the results of the first reset; later calls do nothing.

        Args:
            obs: The observations by agent.
            infos: The infos by agent.

        Raises:
            EnvConfigError: If `action_mask_key` was set and no entry has that name.
        """
        masked = [a for a in self._unmasked if self.key in _of(infos, a)]
        if masked and self.source == "none":
            self.source = "info"
        for agent in masked:
            del self._unmasked[agent]
        if self.key != ACTION_MASK and self.source == "none" and self._unmasked:
            names = {
                str(n) for s in (obs, infos) for a in self._unmasked for n in _of(s, a)
            }
            raise EnvConfigError(
                f"env_config.action_mask_key is {self.key}, but no agent's observation"
                " or info has an entry of that name after reset(). Set it to one of the"
                f" entries there: {', '.join(sorted(names)) or 'none'}"
            )
        self.warn_of_other_names(obs, infos)
        self._unmasked = {}


def _of(source: Any, agent: Any) -> Mapping[Any, Any]:
    """The named entries of one agent; empty if there are none."""
    entries = source.get(agent) if isinstance(source, Mapping) else None
    if isinstance(entries, spaces.Dict):
        return entries.spaces
    return entries if isinstance(entries, Mapping) else {}


def _mask_like_entries(entries: Mapping[Any, Any], num_actions: int) -> list[str]:
    """Names of entries that look like a mask: by name, size, and values of 0 and 1."""
    if num_actions < 2:
        return []
    return [
        str(name)
        for name, value in entries.items()
        if _MASK_NAME.search(str(name)) and _like_mask(value, num_actions)
    ]


def _mask_like_message(names: Sequence[str]) -> str:
    """The warning about entries that look like masks."""
    quoted = " and ".join(f"'{name}'" for name in names)
    return (
        f"{quoted} in the env's observation or info looks like an action mask, but is"
        " not used as one, so illegal actions may be played: set"
        f" env_config.action_mask_key to {names[0]}. If it is not a mask, rename the"
        " entry to avoid this warning"
    )


def _like_mask(value: Any, num_actions: int) -> bool:
    """Whether a value or a space holds one 0 or 1 per action."""
    if isinstance(value, spaces.MultiBinary):
        return int(np.prod(value.shape)) == num_actions
    if isinstance(value, spaces.Box):
        flags = bool((value.low == 0).all() and (value.high == 1).all())
        # A float Box in [0, 1] may hold fractions, so its bounds show no mask.
        whole = np.issubdtype(value.dtype, np.integer) or value.dtype == np.bool_
        return flags and whole and int(np.prod(value.shape)) == num_actions
    if isinstance(value, spaces.MultiDiscrete):
        return value.nvec.size == num_actions and bool((value.nvec == 2).all())
    if isinstance(value, spaces.Space) or not isinstance(
        value, np.ndarray | list | tuple
    ):
        return False
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return values.size == num_actions and bool(((values == 0) | (values == 1)).all())
