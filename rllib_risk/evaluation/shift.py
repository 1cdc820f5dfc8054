"""How policies do over a grid of shifted environments.

What counts of a cell is the mean over its episodes. Over the cells the summary takes
the nominal one, the mean, the worst, and the CVaR: the mean of the worst fifth.

Letters: ``P`` policies, ``T`` trained runs of one policy, ``C`` cells, ``R`` episodes
per cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rllib_risk.config.shift_grid import ShiftGrid
from rllib_risk.ops.statistics import bootstrap_ci, cvar_of_returns

if TYPE_CHECKING:
    pass

FloatArray = NDArray[np.float64]

# The share of cells that the CVaR over cells is the mean of.
CELL_SHARE = 0.2


@dataclass(frozen=True)
class PolicyScores:
    """What one policy reached in every episode of every cell.

    Attributes:
        label: Its name.
        values: Of the metric, float64 ``[T, C, R]``; one run for a scripted policy.
        successes: 1 for every success, ``[T, C, R]``; None where the environment does
            not say.
        reference: Whether it is a scripted policy.
        sources: The checkpoints of its runs.
        crashes: Episodes that were lost and played again.
    """

    label: str
    values: FloatArray
    successes: FloatArray | None = None
    reference: bool = False
    sources: tuple[str, ...] = ()
    crashes: int = 0

    @property
    def title(self) -> str:
        """The label, with a remark on a scripted policy."""
        return f"{self.label} (reference)" if self.reference else self.label

    @cached_property
    def means(self) -> FloatArray:
        """The mean of every cell over its episodes and all runs, ``[C]``."""
        return np.asarray(self.values.mean(axis=(0, 2)), np.float64)

    @cached_property
    def intervals(self) -> tuple[FloatArray, FloatArray]:
        """95 % intervals of :attr:`means`, ``[C]`` each: over runs if there are more.

        With one run it is over episodes, and says nothing about training again.
        """
        whole = self.values[0].T if len(self.values) == 1 else self.values.mean(axis=2)
        return bootstrap_ci(whole, np.mean)

    def differences(self, other: PolicyScores) -> tuple[FloatArray, ...]:
        """How much better this policy is than another, episode by episode.

        Args:
            other: Played the same seeds.

        Returns:
            Mean difference and the ends of its 95 % interval over episodes, ``[C]``.
        """
        paired = self.values.mean(axis=0) - other.values.mean(axis=0)  # [C, R]
        return (paired.mean(axis=1), *bootstrap_ci(paired.T, np.mean))


@dataclass(frozen=True)
class ShiftSummary:
    """A policy over all cells; NaN where there is no nominal cell.

    Attributes:
        nominal: Mean of the cell that is like training.
        mean: Over cells.
        worst: Mean of the worst cell.
        worst_cell: Its index.
        cvar: Mean of the ``ceil(C / 5)`` worst cells.
    """

    nominal: float
    mean: float
    worst: float
    worst_cell: int
    cvar: float


@dataclass(frozen=True)
class ShiftResults:
    """All policies on a grid.

    Attributes:
        grid: The grid.
        env: Name of the environment.
        metric: What the values are.
        seed: Of the evaluation.
        policies: In the order of the tables; the first is compared with.
    """

    grid: ShiftGrid
    env: str
    metric: str
    seed: int
    policies: tuple[PolicyScores, ...]

    @property
    def num_episodes(self) -> int:
        """Episodes per cell and run."""
        return int(self.policies[0].values.shape[2])


def summarise_cells(means: FloatArray, nominal: int | None) -> ShiftSummary:
    """Sums up the means of all cells.

    Args:
        means: ``[C]``.
        nominal: Index of the nominal cell, if there is one.

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
