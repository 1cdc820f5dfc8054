"""Scores of policies over a grid of shifted environments.

The score of a cell is the mean over its episodes. The summary of all cells contains the
nominal cell, the mean, the worst cell, and the CVaR: the mean of the worst fifth.

Letters: ``P`` policies, ``T`` trained runs of one policy, ``C`` cells, ``R`` episodes
per cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rllib_risk.config.shift_grid import ShiftGrid
from rllib_risk.ops.statistics import bootstrap_ci, cvar_of_returns

FloatArray = NDArray[np.float64]

# The CVaR over cells is the mean of this fraction of the worst cells.
CELL_SHARE = 0.2


@dataclass(frozen=True)
class PolicyScores:
    """Scores of one policy in every episode of every cell.

    Attributes:
        label: Name of the policy.
        values: Values of the metric, float64 ``[T, C, R]``. A scripted policy has one
            run.
        successes: 1 for every success, ``[T, C, R]``; None if the environment does not
            report it.
        reference: Whether the policy is scripted.
        sources: Checkpoints of its runs.
        crashes: Number of episodes that crashed and were repeated.
    """

    label: str
    values: FloatArray
    successes: FloatArray | None = None
    reference: bool = False
    sources: tuple[str, ...] = ()
    crashes: int = 0

    @property
    def title(self) -> str:
        """The label, with "(reference)" for a scripted policy."""
        return f"{self.label} (reference)" if self.reference else self.label

    @cached_property
    def means(self) -> FloatArray:
        """Mean of every cell over its episodes and all runs, ``[C]``."""
        return np.asarray(self.values.mean(axis=(0, 2)), np.float64)

    @cached_property
    def intervals(self) -> tuple[FloatArray, FloatArray]:
        """95 % intervals of :attr:`means` over runs, ``[C]`` each.

        With one run the intervals are over episodes and give no information about
        other training runs.
        """
        whole = self.values[0].T if len(self.values) == 1 else self.values.mean(axis=2)
        return bootstrap_ci(whole, np.mean)

    def differences(self, other: PolicyScores) -> tuple[FloatArray, ...]:
        """Computes the paired difference to another policy over episodes.

        Args:
            other: Scores of a policy that was played with the same seeds.

        Returns:
            Mean difference and the ends of its 95 % interval over episodes, ``[C]``.
        """
        paired = self.values.mean(axis=0) - other.values.mean(axis=0)  # [C, R]
        return (paired.mean(axis=1), *bootstrap_ci(paired.T, np.mean))


@dataclass(frozen=True)
class ShiftSummary:
    """Summary of a policy over all cells.

    Attributes:
        nominal: Mean of the nominal cell, which equals the training environment. NaN if
            there is none.
        mean: Mean over all cells.
        worst: Mean of the worst cell.
        worst_cell: Index of the worst cell.
        cvar: Mean of the ``ceil(C / 5)`` worst cells.
    """

    nominal: float
    mean: float
    worst: float
    worst_cell: int
    cvar: float


@dataclass(frozen=True)
class ShiftResults:
    """Scores of all policies on a grid.

    Attributes:
        grid: The grid.
        env: Name of the environment.
        metric: Name of the metric.
        seed: Seed of the evaluation.
        policies: Policies in the order of the tables. The others are compared with the
            first one.
    """

    grid: ShiftGrid
    env: str
    metric: str
    seed: int
    policies: tuple[PolicyScores, ...]

    @property
    def num_episodes(self) -> int:
        """Number of episodes per cell and run."""
        return int(self.policies[0].values.shape[2])


def summarise_cells(means: FloatArray, nominal: int | None) -> ShiftSummary:
    """Summarises the means of all cells.

    Args:
        means: Mean of each cell, ``[C]``.
        nominal: Index of the nominal cell; None if there is none.

    Returns:
        The summary.
    """
    worst = int(means.argmin())
    return ShiftSummary(
        nominal=math.nan if nominal is None else float(means[nominal]),
        mean=float(means.mean()),
        worst=float(means[worst]),
        worst_cell=worst,
        cvar=cvar_of_returns(means, CELL_SHARE),
    )
