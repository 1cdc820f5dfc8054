"""Finds and checks the agents' action masks in observations and infos.

An entry is a mask if its name is `action_mask` (or the value of `action_mask_key`); it
must then have one number per action. This module also finds entries under other names
that look like masks, and warns of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
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


def split_mask(
    agent: str, space: spaces.Space, key: str, num_actions: int
) -> tuple[spaces.Space, tuple[Any, ...]]:
    """Splits an observation space into what is observed and the action mask.

    Args:
        agent: Name of the agent, for error texts.
        space: Its observation space.
        key: Name of the mask's entry, in the Dict or in a Dict within it.
        num_actions: Number of its actions.

    Returns:
        The space without the mask's entry, and the names that lead to the mask; the
        space itself and no names if there is no mask in it.

    Raises:
        EnvConfigError: If the entry does not have one number per action, if several
            entries have its name, or if there is no other entry.
    """
    paths = sorted(_paths(space, key), key=len)
    if not paths:
        return space, ()
    if len(paths[0]) > 1 and len(paths) > 1:
        raise EnvConfigError(
            f"the observation space of agent '{agent}' has several entries '{key}':"
            f" {' and '.join(spelled(path) for path in paths)}. Give the action mask a"
            " name of its own and set env_config.action_mask_key to it"
        )
    mask = _part(space, paths[0])
    size = None if mask.shape is None else int(np.prod(mask.shape))
    if size != num_actions:
        raise EnvConfigError(
            f"agent '{agent}' has {num_actions} actions, but entry '{key}' of its"
            f" observation space is {mask}: a mask needs one number per action, 1 for a"
            " legal one. If the entry is not a mask, rename it"
        )
    rest = _without(space, paths[0])
    if rest is None:
        raise EnvConfigError(
            f"the observation space of agent '{agent}' holds only '{key}': add an entry"
            " with what the agent observes"
        )
    return rest, paths[0]


def spelled(path: Sequence[Any]) -> str:
    """Spells the names that lead to an entry, such as observation/action_mask."""
    return "/".join(map(str, path))


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
        # Whether `action_mask_key` alone would make these entries masks.
        self._usable = True
        self._unmasked = dict(unmasked)

    def warn_of_other_names(self, obs: Any, infos: Any = None) -> None:
        """Records entries that look like masks and are not used; warns once.

        Args:
            obs: Observation spaces or observations, by agent.
            infos: Infos by agent.
        """
        before = len(self.mask_like)
        for agent, num_actions in self._unmasked.items():
            entries = [
                *_entries(_of(obs, agent), deep=True),
                *_entries(_of(infos, agent), deep=False),
            ]
            for name, value, usable in entries:
                if name in self.mask_like or not _MASK_NAME.search(name):
                    continue
                if num_actions > 1 and _like_mask(value, num_actions):
                    self.mask_like.append(name)
                    self._usable &= usable and name != self.key
        if len(self.mask_like) > before:
            text = _mask_like_message(self.mask_like, self.key, self._usable)
            tell(f"masks {self.mask_like}", text)

    def check_reset(self, obs: Any, infos: Any) -> None:
        """Searches the results of the first reset; later calls do nothing.

        Args:
            obs: The observations by agent.
            infos: The infos by agent.

        Raises:
            EnvConfigError: If `action_mask_key` was set and no entry has that name.
        """
        masked = [a for a in self._unmasked if self.key in _names(infos, a)]
        if masked and self.source == "none":
            self.source = "info"
        for agent in masked:
            del self._unmasked[agent]
        if self.key != ACTION_MASK and self.source == "none" and self._unmasked:
            names = {
                str(n)
                for s in (obs, infos)
                for a in self._unmasked
                for n in _names(s, a)
            }
            raise EnvConfigError(
                f"env_config.action_mask_key is {self.key}, but no agent's observation"
                " or info has an entry of that name after reset(). Set it to one of the"
                f" entries there: {', '.join(sorted(names)) or 'none'}"
            )
        self.warn_of_other_names(obs, infos)
        self._unmasked = {}


def _of(source: Any, agent: Any) -> Any:
    """What belongs to one agent; None if there is nothing."""
    return source.get(agent) if isinstance(source, Mapping) else None


def _names(source: Any, agent: Any) -> Mapping[Any, Any]:
    """The named entries of one agent; empty if there are none."""
    entries = _of(source, agent)
    return entries if isinstance(entries, Mapping) else {}


def _paths(
    space: spaces.Space, key: str, above: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """The names that lead to the entries of a name, in a Dict and the Dicts in it."""
    if isinstance(space, spaces.Dict):
        for name, part in space.spaces.items():
            if name == key:
                yield (*above, name)
            else:
                yield from _paths(part, key, (*above, name))


def _part(space: Any, path: tuple[Any, ...]) -> spaces.Space:
    """The part of a Dict space to which some names lead."""
    for name in path:
        space = space.spaces[name]
    return space


def _without(space: Any, path: tuple[Any, ...]) -> spaces.Dict | None:
    """A Dict space without one of its parts; None if nothing else is in it."""
    parts = dict(space.spaces)
    first, *below = path
    part = _without(parts[first], tuple(below)) if below else None
    if part is None:
        del parts[first]
    else:
        parts[first] = part
    return spaces.Dict(parts) if parts else None


def _entries(
    value: Any, deep: bool, usable: bool = True
) -> Iterator[tuple[str, Any, bool]]:
    """The named entries of a space, an observation or an info, and those within them.

    Args:
        value: The space, observation or info.
        deep: Whether a mask within an entry is found; see `split_mask`.
        usable: Whether a mask in this value is found.

    Yields:
        Name, value, and whether a mask in this place is found under the right name.
    """
    if isinstance(value, spaces.Dict | spaces.Tuple):
        value = value.spaces
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name), part, usable
            yield from _entries(part, deep, usable and deep)
    elif isinstance(value, tuple):
        for part in value:
            yield from _entries(part, deep, False)


def _mask_like_message(names: Sequence[str], key: str, usable: bool) -> str:
    """The warning about entries that look like masks."""
    quoted = " and ".join(f"'{name}'" for name in names)
    advice = (
        f"set env_config.action_mask_key to {names[0]}"
        if usable
        else f"make it an entry '{key}' of a Dict observation space, or return it as"
        f" '{key}' in the info, not deeper"
    )
    return (
        f"{quoted} in the env's observation or info looks like an action mask, but is"
        f" not used as one, so illegal actions may be played: {advice}. If it is not a"
        " mask, rename the entry to avoid this warning"
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
