"""What a team expects of those who ask it: sizes, names, masks, and checks of them.

Letters: ``L`` leading axes (none, or ``E`` environments), ``N`` agents, ``A`` actions,
``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.deploy.errors import InputError


@dataclass(frozen=True)
class AgentContract:
    """What one agent sees and does.

    Attributes:
        name: Of the agent.
        obs_size: Numbers of its flat observation.
        num_actions: Its actions are ``0 .. num_actions - 1``.
        observation_names: One for each number, where the environment gives them.
        observation_low: Declared bounds; None where there is none.
        observation_high: The same.
        action_names: One for each action, where the environment gives them.
    """

    name: str
    obs_size: int
    num_actions: int
    observation_names: Sequence[str] | None = None
    observation_low: Sequence[float | None] | None = None
    observation_high: Sequence[float | None] | None = None
    action_names: Sequence[str] | None = None


@dataclass(frozen=True)
class Contract:
    """What a team expects.

    Attributes:
        agents: In the order of all arrays.
        obs_size: ``D``, of the longest observation; shorter ones are padded with zeros.
        num_actions: ``A``, of the agent with the most actions.
        needs_mask: Whether the environment masks actions, so that a mask must be given.
        needs_return: Whether the return so far must be given (``objective: static``).
    """

    agents: tuple[AgentContract, ...]
    obs_size: int
    num_actions: int
    needs_mask: bool
    needs_return: bool

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Contract:
        """Reads the contract.

        Args:
            record: ``contract`` of ``policy.json``.
        """
        agents = tuple(AgentContract(**agent) for agent in record["agents"])
        return cls(**{**record, "agents": agents})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the agents."""
        return tuple(agent.name for agent in self.agents)

    def own_actions(self) -> np.ndarray:
        """Which actions an agent has at all, bool ``[N, A]``."""
        counts = np.array([agent.num_actions for agent in self.agents])
        return np.arange(self.num_actions) < counts[:, None]


def rows_of(given: Any, shape: tuple[int, ...], whose: str, what: str) -> np.ndarray:
    """An array of exactly one shape; nothing is broadcast.

    Args:
        given: An array, or lists of numbers.
        shape: That it must have.
        whose: What it belongs to, for the message.
        what: Its name, for the message.

    Returns:
        The array.

    Raises:
        InputError: If it has another shape or holds no numbers.
    """
    try:
        rows = np.asarray(given)
    except ValueError:  # lists of different lengths
        rows = np.empty(0, object)
    if rows.shape != shape or rows.dtype.kind not in "fiub":
        found = f"shape {list(rows.shape)}" if rows.dtype.kind in "fiub" else "no array"
        raise InputError(
            f"{what} of {whose} must have shape {list(shape)}, found {found}."
        )
    return rows


def observations(given: Any, shape: tuple[int, ...], whose: str) -> np.ndarray:
    """Finite observations of a shape, float32.

    Args:
        given: The observations.
        shape: That they must have.
        whose: What they belong to, for the message.

    Raises:
        InputError: If they have another shape, or hold NaN or infinity.
    """
    rows = rows_of(given, shape, whose, "obs").astype(np.float32, copy=False)
    if not np.isfinite(rows).all():
        at = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise InputError(f"obs of {whose} holds {rows[tuple(at)]} at {at}.")
    return rows


def masks(given: Any, own: np.ndarray, needed: bool, whose: str) -> np.ndarray:
    """Which actions are available.

    Args:
        given: 1 or True where an action is available, ``[*, A]``; None: all of them.
        own: Which actions there are at all, bool ``[*, A]``.
        needed: Whether there must be a mask.
        whose: What it belongs to, for the message.

    Returns:
        bool ``[*, A]``.

    Raises:
        InputError: If the mask is missing, has another shape, allows an action that
            does not exist, or allows none.
    """
    if given is None:
        if needed:
            raise InputError(
                f"action_mask of {whose} is missing: the environment of the training"
                f" masks actions. Give an array of shape {list(own.shape)}, 1 where an"
                " action is available."
            )
        return own
    rows = rows_of(given, own.shape, whose, "action_mask")
    mask = rows.astype(bool)
    if not (mask == rows).all():
        raise InputError(f"action_mask of {whose} must hold 0 and 1 alone.")
    if (mask & ~own).any():
        at = np.argwhere(mask & ~own)[0].tolist()
        raise InputError(
            f"action_mask of {whose} allows an action that does not exist, at {at}."
        )
    if not mask.any(axis=-1).all():
        at = np.argwhere(~mask.any(axis=-1))[0].tolist()
        raise InputError(f"action_mask of {whose} allows no action, at {at}.")
    return mask


def padded(given: Mapping[str, Any], names: Sequence[str], what: str) -> list[Any]:
    """The entries of a mapping in the order of the agents.

    Args:
        given: By name of the agent.
        names: Of all agents.
        what: Its name, for the message.

    Returns:
        One entry for each agent.

    Raises:
        InputError: If an agent is missing or unknown.
    """
    if given.keys() != set(names):
        odd = sorted(set(names) ^ given.keys(), key=str)
        missing = odd[0] in names
        raise InputError(
            f"{what} {'lacks' if missing else 'has the unknown'} agent {odd[0]!r}: the"
            f" team has {len(names)} agents, {', '.join(names)}. An agent that is no"
            " longer alive has an observation of zeros, and a mask that allows action 0"
            " alone."
        )
    return [given[name] for name in names]
