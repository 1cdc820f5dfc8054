"""Exact distribution of the return of a joint policy in a tabular game.

The policy may depend on the step and the return so far, also on the last joint action,
or on the whole history. The policy is played along every possible outcome. Every
history that is reached is kept with its probability. Histories are merged where the
policy cannot distinguish them.

A *node* is a set of merged histories in which the policy acts.

Letters: ``n`` nodes at a step, ``t`` the step, ``K`` outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rllib_risk.ops.robust_mdp import Floats, Integers, TabularMDP, cvar_mean

# Decimals to which returns are rounded before they are compared: the order in which
# rewards are added changes the last bits.
DIGITS = 9
MAX_NODES = 50_000


class TooManyNodesError(ValueError):
    """Raised when there are too many histories to enumerate."""


@dataclass(frozen=True)
class Distribution:
    """A finite distribution of returns.

    Attributes:
        values: Distinct returns in ascending order, float64 ``[n]``.
        probabilities: Probability of each return, float64 ``[n]``; sum to 1.
    """

    values: Floats
    probabilities: Floats

    @classmethod
    def of(cls, values: Floats, probabilities: Floats) -> Distribution:
        """Builds a distribution and merges equal values.

        Args:
            values: Returns in any order, ``[n]``.
            probabilities: Probability of each value, ``[n]``.

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
        """CVaR: the mean of the lowest fraction ``alpha``; see :func:`cvar_mean`."""
        return float(cvar_mean(self.values, self.probabilities, alpha))


@dataclass(frozen=True)
class Histories:
    """One history for every node in which a policy acts at step ``t``.

    Attributes:
        states: States visited, the current one last, int64 ``[n, t + 1]``.
        actions: Joint actions taken, int64 ``[n, t]``.
        outcomes: Index of the outcome of each action, int64 ``[n, t]``.
        rewards: Rewards received, float64 ``[n, t]``.
        returns: Discounted sum of the rewards, float64 ``[n]``.
    """

    states: Integers
    actions: Integers
    outcomes: Integers
    rewards: Floats
    returns: Floats

    @property
    def step(self) -> int:
        """The step ``t``."""
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
        """Extends some of the histories by one step.

        Args:
            rows: Indices of the histories to extend, ``[m]``.
            actions: Joint action taken in each, ``[m]``.
            outcomes: Index of the outcome, ``[m]``.
            next_states: Next state, ``[m]``.
            rewards: Reward of the step, ``[m]``.
            returns: Return so far after the step, ``[m]``.

        Returns:
            The ``m`` extended histories.
        """
        return Histories(
            np.column_stack([self.states[rows], next_states]),
            np.column_stack([self.actions[rows], actions]),
            np.column_stack([self.outcomes[rows], outcomes]),
            np.column_stack([self.rewards[rows], rewards]),
            returns,
        )


# What a policy depends on in addition to the step, the state and the return so far.
Memory = Literal["none", "last_action", "history"]

# A policy: chooses a joint action, int64 [n], in every node.
Act = Callable[[Histories], Integers]


@dataclass(frozen=True)
class _Layer:
    """The outcomes of all nodes of one step, ``[n, K]`` each.

    Attributes:
        children: Place at the next step; -1 where the episode ends.
        chances: Probability of each outcome.
        rewards: Reward of each outcome.
    """

    children: Integers
    chances: Floats
    rewards: Floats


@dataclass(frozen=True)
class PlayedPolicy:
    """The result of playing a joint policy along every outcome.

    Attributes:
        returns: Distribution of the return.
        gamma: Discount of the return.
    """

    returns: Distribution
    gamma: float
    _layers: tuple[_Layer, ...]

    def nested(self, alpha: float) -> float:
        """Nested CVaR of the policy: CVaR is applied at every step.

        Args:
            alpha: Risk level in (0, 1].

        Returns:
            The value of the start state.
        """
        values = np.zeros(1)
        for layer in reversed(self._layers):
            after = np.where(layer.children >= 0, values[layer.children], 0.0)
            outcomes = layer.rewards + self.gamma * after
            values = cvar_mean(outcomes, layer.chances, alpha)
        return float(values[0])


def play_out(
    mdp: TabularMDP,
    act: Act,
    *,
    step_limit: int,
    gamma: float = 1.0,
    memory: Memory = "none",
    max_nodes: int = MAX_NODES,
) -> PlayedPolicy:
    """Plays a joint policy along every possible outcome.

    Args:
        mdp: The game.
        act: The deterministic policy.
        step_limit: Steps after which an episode ends.
        gamma: Discount of the return.
        memory: What the policy depends on in addition to the step, the state and the
            return so far. With ``history``, outcomes are merged only if they belong to
            the same history and have the same next state and reward.
        max_nodes: Maximum number of nodes at one step.

    Returns:
        The distribution of the return and the tree of outcomes.

    Raises:
        TooManyNodesError: If a step has more nodes than ``max_nodes``.
    """
    histories = Histories(
        np.array([[mdp.start]]),
        np.zeros((1, 0), np.int64),
        np.zeros((1, 0), np.int64),
        np.zeros((1, 0)),
        np.zeros(1),
    )
    reached = np.ones(1)
    layers: list[_Layer] = []
    ends: list[tuple[Floats, Floats]] = []
    for step in range(step_limit):
        here, actions = histories.states[:, -1], act(histories)
        chances, rewards = mdp.probabilities[here, actions], mdp.rewards[here, actions]
        returns = histories.returns[:, None] + gamma**step * rewards  # [n, K]
        mass = reached[:, None] * chances
        over = mdp.terminals[here, actions] | (step + 1 == step_limit)
        last = over & (chances > 0)
        ends.append((returns[last], mass[last]))
        rows, outcomes = np.nonzero(~over & (chances > 0))
        after = mdp.next_states[here[rows], actions[rows], outcomes]
        so_far = returns[rows, outcomes]
        remembered = {"none": [], "last_action": [actions[rows]], "history": [rows]}
        keys = [after, np.round(so_far, DIGITS), *remembered[memory]]
        first, node = _merged(np.column_stack(keys))
        children = np.full(chances.shape, -1)
        children[rows, outcomes] = node
        layers.append(_Layer(children, chances, rewards))
        if len(first) > max_nodes:
            raise TooManyNodesError(
                f"at step {step + 1} there are {len(first)} histories to follow, more"
                f" than the maximum of {max_nodes}."
            )
        if len(first) == 0:
            break
        reached = _sums(node, mass[rows, outcomes], len(first))
        rows, outcomes = rows[first], outcomes[first]
        taken, paid = actions[rows], rewards[rows, outcomes]
        histories = histories.after(
            rows, taken, outcomes, after[first], paid, so_far[first]
        )
    values, masses = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    return PlayedPolicy(Distribution.of(values, masses), gamma, tuple(layers))


def _merged(keys: Floats) -> tuple[Integers, Integers]:
    """Groups equal rows of ``[m, keys]``.

    Returns:
        The first row of each group, and the group of each row.
    """
    if len(keys) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _, first, node = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return first, node.reshape(-1)


def _sums(nodes: Integers, masses: Floats, number: int) -> Floats:
    """Sums the masses of each of ``number`` nodes."""
    sums = np.zeros(number)
    np.add.at(sums, nodes, masses)
    return sums
