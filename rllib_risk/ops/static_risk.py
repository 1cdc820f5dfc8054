"""The best static CVaR of the return in a tabular game, by dynamic programming.

``CVaR_alpha(R) = max_b { b + E[min(R - b, 0)] / alpha }``, so the best CVaR over joint
policies is ``max_b { b + U(b) / alpha }``, where ``U(b)`` is the best mean of
``min(R - b, 0)``. For a fixed ``b`` this is a risk-neutral problem on the state, the
step and ``y = x - b``, where ``x`` is the return so far. It depends on ``b`` only
through ``y``, so one table over ``y`` serves every ``b`` and every level. The best
``b`` is one of the possible returns.

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

# Utilities that differ by less count as equal; then the mean decides between them.
TIE = 1e-9
# Tolerance for finding a return in a grid: above rounding errors of sums, below the
# distance of the grid's points.
_NEAR = 1e-7
# Maximum number of entries in the table of one step, [S, A, Y].
MAX_CELLS = 50_000_000


class TooManyReturnsError(ValueError):
    """Raised when the return so far takes more values than a table can hold."""


@dataclass(frozen=True)
class StaticOptimum:
    """The best static CVaR at one risk level, and a policy that reaches it.

    Attributes:
        alpha: The risk level.
        value: The best ``CVaR_alpha(R)``.
        threshold: The best ``b``, the ``alpha``-quantile of the return.
        mean: The highest mean return among the policies that are optimal for this
            ``b``.
    """

    alpha: float
    value: float
    threshold: float
    mean: float
    _tables: _Tables

    def act(self, histories: Histories) -> Integers:
        """Chooses the joint action in every node; see :func:`play_out`."""
        step = histories.step
        y = histories.returns - self.threshold
        grid = self._tables.grids[step]
        column = np.minimum(np.searchsorted(grid, y - _NEAR), len(grid) - 1)
        row = self._tables.row_of[histories.states[:, -1]]
        chosen: Integers = self._tables.choices[step][row, column].astype(np.int64)
        return chosen


@dataclass(frozen=True)
class _Tables:
    """Optimal joint actions at every step.

    Attributes:
        row_of: Row of each state in the tables, ``[S]``; -1 for states that are never
            reached.
        grids: Ascending values of ``y`` at each step, ``[Y]`` each.
        choices: Joint action at each step, ``[S, Y]`` each.
    """

    row_of: Integers
    grids: list[Floats]
    choices: list[Integers]


def static_optima(
    mdp: TabularMDP, alphas: Sequence[float], *, step_limit: int, gamma: float = 1.0
) -> list[StaticOptimum]:
    """Computes the best static CVaR of the return at every risk level.

    Among equally good thresholds it takes the one with the higher mean, then the lowest
    threshold.

    Args:
        mdp: The game.
        alphas: Risk levels in (0, 1]; 1 gives the best mean.
        step_limit: Steps after which an episode ends.
        gamma: Discount of the return. Below 1 the return so far takes many values, so
            only short games fit into the tables.

    Returns:
        One optimum per level.

    Raises:
        ValueError: If a level is outside (0, 1].
        TooManyReturnsError: If a table would be too large.
    """
    if not all(0.0 < alpha <= 1.0 for alpha in alphas):
        raise ValueError(f"every alpha must be in (0, 1], not {list(alphas)}.")
    game = _Game(mdp, step_limit)
    thresholds = game.thresholds(gamma)  # [B]
    grids = list(game.grids(-thresholds[::-1], gamma))
    utilities, means, choices = _solve(game, grids, gamma)
    tables = _Tables(game.row_of, grids, choices)
    # the first grid is -b in ascending order, so reverse it to match the thresholds
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
    """The reachable part of a game, stored for sparse matrix products.

    Attributes:
        row_of: Row of each state, ``[S]``; -1 where the team never acts.
        num_states: Number of states in which the team acts (``rows`` in shapes).
        num_actions: Number of joint actions ``A``.
        step_limit: Number of steps ``T``.
        start: Row of the start state.
        rewards: Distinct rewards in ascending order, ``[M]``.
        kernel: Probability of each reward with each next state, sparse
            ``[rows * A, M * (rows + 1)]``. The last next state is the episode's end.
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
        # only the last step reaches a state in which the team never acts
        after = self.row_of[mdp.next_states[states][possible]]
        after = np.where(ends | (after < 0), size, after)
        source, action, _ = np.nonzero(possible)
        rows, columns = source * actions + action, kinds * (size + 1) + after
        shape = (size * actions, len(self.rewards) * (size + 1))
        self.kernel: Any = csr_array((chances[possible], (rows, columns)), shape=shape)

    def thresholds(self, gamma: float) -> Floats:
        """Candidate returns of an episode in ascending order, ``[B]``.

        They include sums of rewards that cannot occur in one episode. Such candidates
        cost time but do not change the result.
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
        """Yields the values of ``y`` at the start and after every step, ``[Y]`` each.

        After a step the values are clipped to the range that still matters. Below that
        range no later rewards can raise ``y`` above 0, so the utility is linear. Above
        it they cannot bring ``y`` below 0, so the utility is 0.
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
        """Mean over the outcomes of every state and joint action.

        Args:
            inside: Value for each reward and next state, ``[M, rows, Y]``.
            at_end: Value for each reward that ends the episode, ``[M, Y]``.

        Returns:
            Means ``[rows, A, Y]``.
        """
        outcomes = np.concatenate([inside, at_end[:, None]], axis=1)
        means = self.kernel @ outcomes.reshape(-1, outcomes.shape[-1])
        return np.asarray(means.reshape(self.num_states, self.num_actions, -1))

    def _plus(self, values: Floats, discount: float) -> Floats:
        """Adds every reward to every value, ``[Y, M]``."""
        most = MAX_CELLS // (self.num_states * self.num_actions)
        if values.size > most or values.size * len(self.rewards) > MAX_CELLS:
            raise TooManyReturnsError(
                f"the return so far takes at least {values.size} values, and there are"
                f" {self.num_states} states, {self.num_actions} joint actions and"
                f" {len(self.rewards)} rewards: too many for exact tables. Use fewer"
                " steps or a gamma of 1."
            )
        return np.asarray(values[:, None] + discount * self.rewards)

    @staticmethod
    def _distinct(values: Floats) -> Floats:
        return np.asarray(np.unique(np.round(values, DIGITS)))


def _acted_in(mdp: TabularMDP, step_limit: int) -> Integers:
    """Reachable states in which the team acts, in ascending order."""
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
    """Solves the game by backward induction over the steps.

    Args:
        game: The game.
        grids: Values of ``y``, from the start to the end of the last step.
        gamma: Discount.

    Returns:
        The best mean utility at the start, ``[Y]``; the highest mean return with that
        utility, ``[Y]``; and the joint actions at every step, ``[rows, Y]`` each.
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
