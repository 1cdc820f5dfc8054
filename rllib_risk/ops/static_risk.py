"""The best static CVaR of the return in a game in tables, by dynamic programming.

``CVaR_alpha(R) = max_b { b + E[min(R - b, 0)] / alpha }``, so the best one over joint
policies is ``max_b { b + U(b) / alpha }``, where ``U(b)`` is the best mean of
``min(R - b, 0)``. For a fixed ``b`` that is an ordinary problem on the state, the step
and ``y = x - b``, where ``x`` is the return so far; and since ``b`` comes in through
``y`` alone, one table over ``y`` serves every ``b`` and every level. The best ``b`` is
a return that can occur.

Source: Bauerle and Ott (2011), "Markov Decision Processes with Average-Value-at-Risk
Criteria", for the state with the return so far; Rockafellar and Uryasev (2000) for CVaR
as a maximum.

Letters: ``S`` states, ``A`` joint actions, ``K`` outcomes, ``T`` steps, ``Y`` values of
``y`` at a step, ``B`` thresholds, ``M`` distinct rewards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.ops.return_distribution import DIGITS, Histories
from rllib_risk.ops.robust_mdp import Floats, Integers, TabularMDP

# Utilities that differ by less count as equal; the mean decides between them then.
TIE = 1e-9
# Returns so far in the tables lie further apart; sums in another order lie closer.
_NEAR = 1e-7
# Most numbers in the table of one step: [S, A, Y].
MAX_CELLS = 50_000_000


class TooManyReturnsError(ValueError):
    """The return so far takes more values than a table can hold."""


@dataclass(frozen=True)
class StaticOptimum:
    """The best static CVaR at one level, and a policy that has it.

    Attributes:
        alpha: The level.
        value: The best ``CVaR_alpha(R)``.
        threshold: The ``b`` that it belongs to, the ``alpha``-quantile of the return.
        mean: The greatest mean return among policies that are best for this ``b``.
    """

    alpha: float
    value: float
    threshold: float
    mean: float
    _tables: _Tables

    def act(self, histories: Histories) -> Integers:
        """The joint action in every place; see :func:`play_out`."""
        step = histories.step
        y = histories.returns - self.threshold
        grid = self._tables.grids[step]
        column = np.minimum(np.searchsorted(grid, y - _NEAR), len(grid) - 1)
        row = self._tables.row_of[histories.states[:, -1]]
        chosen: Integers = self._tables.choices[step][row, column].astype(np.int64)
        return chosen


@dataclass(frozen=True)
class _Tables:
    """What to do at every step.

    Attributes:
        row_of: Row of each state in the tables; -1 where it is not reached, ``[S]``.
        grids: Ascending values of ``y`` at each step, ``[Y]`` each.
        choices: Joint action at each step, ``[S, Y]`` each.
    """

    row_of: Integers
    grids: list[Floats]
    choices: list[Integers]


def static_optima(
    mdp: TabularMDP, alphas: Sequence[float], *, step_limit: int, gamma: float = 1.0
) -> list[StaticOptimum]:
    """The best static CVaR of the return at every level.

    Where several thresholds are equally good, the one with the greater mean counts,
    then the lowest.

    Args:
        mdp: The game.
        alphas: Levels in (0, 1]; 1 gives the best mean.
        step_limit: Steps after which an episode ends.
        gamma: Discount of the return. Below 1 the return so far takes many values, and
            only short games fit.

    Returns:
        One optimum per level.

    Raises:
        ValueError: If a level is out of its range.
        TooManyReturnsError: If the table does not fit.
    """
    if not all(0.0 < alpha <= 1.0 for alpha in alphas):
        raise ValueError(f"every alpha must be in (0, 1], not {list(alphas)}.")
    game = _Game(mdp, step_limit)
    thresholds = game.thresholds(gamma)  # [B]
    grids = list(game.grids(-thresholds[::-1], gamma))
    utilities, means, choices = _solve(game, grids, gamma)
    tables = _Tables(game.row_of, grids, choices)
    # the first grid is -b, ascending: reversed it belongs to the thresholds
    best_u, mean = utilities[::-1], means[::-1]
    optima = []
    for alpha in alphas:
        cvar = thresholds + best_u / alpha
        equal = np.flatnonzero(cvar >= cvar.max() - TIE / alpha)
        index = equal[np.round(mean[equal], DIGITS).argmax()]
        optima.append(
            StaticOptimum(
                alpha=alpha,
                value=float(cvar[index]),
                threshold=float(thresholds[index]),
                mean=float(mean[index]),
                _tables=tables,
            )
        )
    return optima


class _Game:
    """The part of a game that can be reached, laid out for sparse products.

    Attributes:
        row_of: Row of each state; -1 where the team never acts, ``[S]``.
        num_states: States in which the team acts.
        num_actions: ``A``.
        step_limit: ``T``.
        start: Row of the first state.
        rewards: Distinct rewards, ascending, ``[M]``.
        kernel: Sparse ``[rows * A, M * (rows + 1)]``: the probability of each reward
            with each next state, of which the last stands for the end.
    """

    def __init__(self, mdp: TabularMDP, step_limit: int) -> None:
        from scipy.sparse import csr_array

        states = _acted_in(mdp, step_limit)
        size, actions = len(states), mdp.rewards.shape[1]
        self.num_states, self.num_actions, self.step_limit = size, actions, step_limit
        self.row_of = np.full(mdp.next_states.shape[0], -1)
        self.row_of[states] = np.arange(size)
        self.start = int(self.row_of[mdp.start])
        chances = mdp.probabilities[states]
        possible = chances > 0
        ends = mdp.terminals[states][possible]
        paid = np.round(mdp.rewards[states][possible], DIGITS)
        self.rewards, kinds = np.unique(paid, return_inverse=True)
        kinds = kinds.reshape(-1)
        self._goes_on, self._ends = (
            np.isin(np.arange(len(self.rewards)), kinds[flags])
            for flags in (~ends, ends)
        )
        # a state in which the team never acts is reached by the last step alone
        after = self.row_of[mdp.next_states[states][possible]]
        after = np.where(ends | (after < 0), size, after)
        source, action, _ = np.nonzero(possible)
        rows, columns = source * actions + action, kinds * (size + 1) + after
        shape = (size * actions, len(self.rewards) * (size + 1))
        self.kernel: Any = csr_array((chances[possible], (rows, columns)), shape=shape)

    def thresholds(self, gamma: float) -> Floats:
        """All sums of rewards that a whole episode may have, ascending, ``[B]``.

        Some of them may be out of reach, because their rewards cannot follow one
        another. Those cost time and change nothing.
        """
        totals = []
        so_far = np.zeros(1)
        for step in range(self.step_limit):
            after = self._plus(so_far, gamma**step)
            last = step + 1 == self.step_limit
            totals.append((after if last else after[:, self._ends]).reshape(-1))
            so_far = self._distinct(after[:, self._goes_on])
        return self._distinct(np.concatenate(totals))

    def grids(self, first: Floats, gamma: float) -> Iterator[Floats]:
        """The values of ``y`` at the start and after every step, ``[Y]`` each.

        After a step they are clipped to what can still matter: with no return left that
        could bring ``y`` above 0 the utility is linear, and with none that could bring
        it below 0 the utility is 0.
        """
        grid = first
        yield grid
        for step in range(self.step_limit):
            after = self._plus(grid, gamma**step)
            later = gamma ** np.arange(step + 1, self.step_limit)
            low, high = (
                float((later * reward).sum())
                for reward in (min(self.rewards[0], 0.0), max(self.rewards[-1], 0.0))
            )
            grid = self._distinct(np.clip(after, -high, -low))
            yield grid

    def mean_of(self, inside: Floats, at_end: Floats) -> Floats:
        """The mean over what follows every state and joint action.

        Args:
            inside: A number for each reward and each next state, ``[M, rows, Y]``.
            at_end: A number for each reward with the end, ``[M, Y]``.

        Returns:
            ``[rows, A, Y]``.
        """
        outcomes = np.concatenate([inside, at_end[:, None]], axis=1)
        means = self.kernel @ outcomes.reshape(-1, outcomes.shape[-1])
        return np.asarray(means.reshape(self.num_states, self.num_actions, -1))

    def _plus(self, values: Floats, discount: float) -> Floats:
        """Every value with every reward added, ``[Y, M]``."""
        most = MAX_CELLS // (self.num_states * self.num_actions)
        if values.size > most or values.size * len(self.rewards) > MAX_CELLS:
            raise TooManyReturnsError(
                f"the return so far takes at least {values.size} values, and there are"
                f" {self.num_states} states, {self.num_actions} joint actions and"
                f" {len(self.rewards)} rewards: too many for exact tables."
            )
        return np.asarray(values[:, None] + discount * self.rewards)

    @staticmethod
    def _distinct(values: Floats) -> Floats:
        return np.asarray(np.unique(np.round(values, DIGITS)))


def _acted_in(mdp: TabularMDP, step_limit: int) -> Integers:
    """The states in which the team can have to act, ascending."""
    leads = (mdp.probabilities > 0) & ~mdp.terminals
    seen = np.zeros(mdp.next_states.shape[0], bool)
    fresh = np.array([mdp.start])
    for _ in range(step_limit):
        seen[fresh] = True
        after = np.unique(mdp.next_states[fresh][leads[fresh]])
        fresh = after[~seen[after]]
        if len(fresh) == 0:
            break
    return np.flatnonzero(seen)


def _solve(
    game: _Game, grids: Sequence[Floats], gamma: float
) -> tuple[Floats, Floats, list[Integers]]:
    """Backward induction over the steps.

    Args:
        game: The game.
        grids: Of ``y``, from the start to the end of the last step.
        gamma: Discount.

    Returns:
        The best mean utility and the greatest mean return that goes with it at the
        start, ``[Y]`` each; and what to do at every step, ``[rows, Y]`` each.
    """
    utility = np.tile(np.minimum(grids[-1], 0.0), (game.num_states, 1))
    mean = np.zeros_like(utility)
    choices: list[Integers] = []
    for step in reversed(range(game.step_limit)):
        paid = gamma**step * game.rewards[:, None]  # [M, 1]
        after = np.round(grids[step] + paid, DIGITS)  # [M, Y]
        kept = np.clip(after, grids[step + 1][0], grids[step + 1][-1])
        column = np.searchsorted(grids[step + 1], kept)
        q = game.mean_of(
            utility[:, column].transpose(1, 0, 2)
            + np.minimum(after - kept, 0.0)[:, None],
            np.minimum(after, 0.0),
        )
        q_mean = game.mean_of(
            mean[:, column].transpose(1, 0, 2) + paid[:, None],
            np.broadcast_to(paid, after.shape),
        )
        utility = q.max(axis=1)
        q_mean[q < utility[:, None] - TIE] = -np.inf
        choice = q_mean.argmax(axis=1)
        mean = np.take_along_axis(q_mean, choice[:, None], axis=1)[:, 0]
        choices.append(choice.astype(np.int32))
    return utility[game.start], mean[game.start], choices[::-1]
