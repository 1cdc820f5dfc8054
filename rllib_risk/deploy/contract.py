"""The contract of an exported team, and checks of its inputs.

Letters: ``L`` leading axes (none, or ``E`` environments), ``N`` agents, ``A`` actions,
``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.deploy.errors import InputError

_LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class AgentContract:
    """Observation and actions of one agent.

    Attributes:
        name: Name of the agent.
        obs_size: Length of its flat observation.
        num_actions: Number of its actions, which are ``0 .. num_actions - 1``.
        observation_names: Names of the numbers of the observation, if the environment
            has them.
        observation_low: Declared lower bounds; None for a number without one.
        observation_high: Declared upper bounds; None for a number without one.
        action_names: Names of the actions, if the environment has them.
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
    """The inputs that a team takes and the actions that it returns.

    Attributes:
        agents: The agents, in the order of all arrays.
        obs_size: Length ``D`` of the longest observation; shorter ones are padded with
            zeros.
        num_actions: Number ``A`` of actions of the agent with the most actions.
        needs_mask: Whether the training environment, or the dataset of a team that
            learned without one, masks actions, so that a mask is required.
        needs_return: Whether the return so far is required (``objective: static``).
    """

    agents: tuple[AgentContract, ...]
    obs_size: int
    num_actions: int
    needs_mask: bool
    needs_return: bool

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Contract:
        """Reads the contract from its JSON form.

        Args:
            record: The entry ``contract`` of ``policy.json``.
        """
        agents = tuple(AgentContract(**agent) for agent in record["agents"])
        return cls(**{**record, "agents": agents})

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the agents."""
        return tuple(agent.name for agent in self.agents)

    def own_actions(self) -> np.ndarray:
        """Returns whether each agent has each action, bool ``[N, A]``."""
        counts = np.array([agent.num_actions for agent in self.agents])
        return np.arange(self.num_actions) < counts[:, None]


def rows_of(given: Any, shape: tuple[int, ...], whose: str, what: str) -> np.ndarray:
    """Converts an input to an array and checks its shape; nothing is broadcast.

    Args:
        given: An array, or lists of numbers.
        shape: The required shape.
        whose: The owner of the input, for the message.
        what: Name of the input, for the message.

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
        found = f"shape {list(rows.shape)}"
        if rows.dtype.kind not in "fiub":
            found = "something that is not an array of numbers"
        raise InputError(
            f"{what} of {whose} must have shape {list(shape)}, found {found}."
        )
    return rows


def observations(given: Any, shape: tuple[int, ...], whose: str) -> np.ndarray:
    """Checks observations and converts them to float32.

    Args:
        given: The observations.
        shape: The required shape.
        whose: Owner of the observations, for the message.

    Raises:
        InputError: See :func:`finite_rows`.
    """
    return finite_rows(given, shape, whose, "obs").astype(np.float32, copy=False)


def finite_rows(
    given: Any, shape: tuple[int, ...], whose: str, what: str
) -> np.ndarray:
    """Checks an input as :func:`rows_of` does, and that 32 bits can hold its numbers.

    Args:
        given: An array, or lists of numbers.
        shape: The required shape.
        whose: The owner of the input, for the message.
        what: Name of the input, for the message.

    Returns:
        The array.

    Raises:
        InputError: If it has another shape, or holds NaN, infinity or a number beyond
            32 bits.
    """
    rows = rows_of(given, shape, whose, what)
    wrong = ~(np.abs(rows) <= _LARGEST)  # NaN counts as wrong too
    if wrong.any():
        at = np.argwhere(wrong)[0].tolist()
        place = f" at {at}" if at else ""
        raise InputError(
            f"{what} of {whose} holds {rows[tuple(at)]}{place}. Give finite numbers"
            " that fit in 32 bits."
        )
    return rows


def masks(given: Any, own: np.ndarray, needed: bool, whose: str) -> np.ndarray:
    """Checks an action mask.

    Args:
        given: 1 or True where an action is available, ``[*, A]``; None: all actions.
        own: Whether an action exists at all, bool ``[*, A]``.
        needed: Whether a mask is required.
        whose: Owner of the mask, for the message.

    Returns:
        bool ``[*, A]``.

    Raises:
        InputError: If the mask is missing, has another shape, allows an action that
            does not exist, or allows none.
    """
    if given is None:
        if needed:
            raise InputError(
                f"action_mask of {whose} is missing, but the training environment or"
                f" its dataset masks actions. Give an array of shape {list(own.shape)},"
                " 1 where an action is available."
            )
        return own
    rows = rows_of(given, own.shape, whose, "action_mask")
    mask = rows.astype(bool)
    if not (mask == rows).all():
        raise InputError(f"action_mask of {whose} must hold only 0 and 1.")
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
    """Returns the entries of a mapping in the order of the agents.

    Args:
        given: Entries by name of the agent.
        names: Names of all agents.
        what: Name of the mapping, for the message.

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
            f" team has {len(names)} agents, {', '.join(names)}. For a dead agent, give"
            " an observation of zeros and a mask that allows only action 0."
        )
    return [given[name] for name in names]
