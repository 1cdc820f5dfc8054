"""Exact distribution of the return of a joint policy in a game in tables.

The policy may depend on the step and on the return so far, on the last joint action
too, or on the whole history. It is played along every possible outcome, and what is
reached is kept with its probability. Histories are merged where the policy cannot tell
them apart.

Letters: ``n`` places in which the policy acts at a step, ``t`` the step, ``K``
outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rllib_risk.ops.robust_mdp import Floats, Integers, TabularMDP, cvar_mean

# Returns that differ by less are one return: sums of rewards in another order.
DIGITS = 9
MAX_PLACES = 50_000


class TooManyPlacesError(ValueError):
    """There are more histories than can be enumerated."""


@dataclass(frozen=True)
class Distribution:
    """A finite distribution of returns.

    Attributes:
        values: Distinct, ascending, float64 ``[n]``.
        probabilities: float64 ``[n]``; sum to 1.
    """

    values: Floats
    probabilities: Floats

    @classmethod
    def of(cls, values: Floats, probabilities: Floats) -> Distribution:
        """Merges equal values.

        Args:
            values: In any order, ``[n]``.
            probabilities: ``[n]``.

        Returns:
            The distribution.
        """
        distinct, index = np.unique(np.round(values, DIGITS), return_inverse=True)
        return cls(distinct, _sums(index.reshape(-1), probabilities, len(distinct)))

    @property
    def mean(self) -> float:
        """The mean."""
        return float(self.values @ self.probabilities)

    def cvar(self, alpha: float) -> float:
        """The mean of the lowest share ``alpha``; see :func:`cvar_mean`."""
        return float(cvar_mean(self.values, self.probabilities, alpha))


@dataclass(frozen=True)
class Histories:
    """One history for every place in which a policy acts at step ``t``.

    Attributes:
        states: The states passed, the present one last, int64 ``[n, t + 1]``.
        actions: Joint actions taken, int64 ``[n, t]``.
        outcomes: Which outcome followed each, int64 ``[n, t]``.
        rewards: float64 ``[n, t]``.
        returns: Discounted sum of the rewards, float64 ``[n]``.
    """

    states: Integers
    actions: Integers
    outcomes: Integers
    rewards: Floats
    returns: Floats

    @property
    def step(self) -> int:
        """``t``."""
        return int(self.actions.shape[1])

    def after(
        self,
        rows: Integers,
        actions: Integers,
        outcomes: Integers,
        next_states: Integers,
        rewards: Floats,
        returns: Floats,
    ) -> Histories:
        """Some of the histories, each one step longer.

        Args:
            rows: Which of them go on, ``[m]``.
            actions: Joint action taken in each, ``[m]``.
            outcomes: Outcome that followed, ``[m]``.
            next_states: State after it, ``[m]``.
            rewards: Reward with it, ``[m]``.
            returns: Return so far after it, ``[m]``.

        Returns:
            ``m`` histories.
        """
        return Histories(
            np.column_stack([self.states[rows], next_states]),
            np.column_stack([self.actions[rows], actions]),
            np.column_stack([self.outcomes[rows], outcomes]),
            np.column_stack([self.rewards[rows], rewards]),
            returns,
        )


# What a policy depends on beside the step, the state and the return so far.
Memory = Literal["none", "last_action", "history"]

# Chooses a joint action, int64 [n], in every place.
Act = Callable[[Histories], Integers]


@dataclass(frozen=True)
class _Level:
    """What may follow in the places of one step: ``[n, K]`` each.

    Attributes:
        children: Place of the next step; -1 where the episode ends.
        chances: Probability of each outcome.
        rewards: Reward with it.
    """

    children: Integers
    chances: Floats
    rewards: Floats


@dataclass(frozen=True)
class PlayedPolicy:
    """A joint policy played along every outcome.

    Attributes:
        returns: Distribution of the return.
        gamma: Discount of the return.
    """

    returns: Distribution
    gamma: float
    _levels: tuple[_Level, ...]

    def nested(self, alpha: float) -> float:
        """Nested CVaR of the policy: risk taken again at every step.

        Args:
            alpha: Risk level in (0, 1].

        Returns:
            The value at the start.
        """
        values = np.zeros(1)
        for level in reversed(self._levels):
            after = np.where(level.children >= 0, values[level.children], 0.0)
            outcomes = level.rewards + self.gamma * after
            values = cvar_mean(outcomes, level.chances, alpha)
        return float(values[0])


def play_out(
    mdp: TabularMDP,
    act: Act,
    *,
    step_limit: int,
    gamma: float = 1.0,
    memory: Memory = "none",
    max_places: int = MAX_PLACES,
) -> PlayedPolicy:
    """Plays a joint policy along every possible outcome.

    Args:
        mdp: The game.
        act: The policy, deterministic.
        step_limit: Steps after which an episode ends.
        gamma: Discount of the return.
        memory: What the policy depends on beside the step, the state and the return so
            far. With ``history`` only outcomes of one step that have the same next
            state and reward are merged.
        max_places: Most places of one step.

    Returns:
        The played policy.

    Raises:
        TooManyPlacesError: If there are more places.
    """
    level = Histories(
        np.array([[mdp.start]]),
        np.zeros((1, 0), np.int64),
        np.zeros((1, 0), np.int64),
        np.zeros((1, 0)),
        np.zeros(1),
    )
    reached = np.ones(1)
    levels: list[_Level] = []
    ends: list[tuple[Floats, Floats]] = []
    for step in range(step_limit):
        here, actions = level.states[:, -1], act(level)
        chances, rewards = mdp.probabilities[here, actions], mdp.rewards[here, actions]
        returns = level.returns[:, None] + gamma**step * rewards  # [n, K]
        mass = reached[:, None] * chances
        over = mdp.terminals[here, actions] | (step + 1 == step_limit)
        last = over & (chances > 0)
        ends.append((returns[last], mass[last]))
        rows, outcomes = np.nonzero(~over & (chances > 0))
        after = mdp.next_states[here[rows], actions[rows], outcomes]
        so_far = returns[rows, outcomes]
        remembered = {"none": [], "last_action": [actions[rows]], "history": [rows]}
        keys = [after, np.round(so_far, DIGITS), *remembered[memory]]
        first, place = _merged(np.column_stack(keys))
        children = np.full(chances.shape, -1)
        children[rows, outcomes] = place
        levels.append(_Level(children, chances, rewards))
        if len(first) > max_places:
            raise TooManyPlacesError(
                f"at step {step + 1} there are {len(first)} histories to follow; at"
                f" most {max_places} can be."
            )
        if len(first) == 0:
            break
        reached = _sums(place, mass[rows, outcomes], len(first))
        rows, outcomes = rows[first], outcomes[first]
        taken, paid = actions[rows], rewards[rows, outcomes]
        level = level.after(rows, taken, outcomes, after[first], paid, so_far[first])
    values, masses = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    return PlayedPolicy(Distribution.of(values, masses), gamma, tuple(levels))


def _merged(keys: Floats) -> tuple[Integers, Integers]:
    """Distinct rows among ``[m, keys]``: a member of each, and the place of each."""
    if len(keys) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _sums(places: Integers, masses: Floats, number: int) -> Floats:
    """Sum of the masses in each of a number of places."""
    sums = np.zeros(number)
    np.add.at(sums, places, masses)
    return sums
