"""The exact frontier of mean and CVaR of a tabular game.

For each risk level it holds the best static CVaR of the return, the mean return of that
policy, and the best nested CVaR. See :mod:`rllib_risk.ops.static_risk` and
:func:`rllib_risk.ops.robust_mdp.nested_value_iteration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_risk.ops.robust_mdp import TabularMDP, nested_value_iteration
from rllib_risk.ops.static_risk import static_optima

LEVELS = (1.0, 0.5, 0.25, 0.1, 0.05)


@dataclass(frozen=True)
class FrontierPoint:
    """The best values that a team can reach at one risk level.

    Attributes:
        alpha: The risk level.
        cvar: The best ``CVaR_alpha`` of the return.
        mean: The mean return of the policy with that CVaR.
        threshold: The threshold ``b`` of that policy; see :class:`StaticOptimum`.
        nested: The best nested CVaR at this level.
    """

    alpha: float
    cvar: float
    mean: float
    threshold: float
    nested: float


def exact_frontier(
    mdp: TabularMDP, *, step_limit: int, alphas: Sequence[float] = LEVELS
) -> list[FrontierPoint]:
    """Computes the frontier of the undiscounted return of an episode.

    Args:
        mdp: The game.
        step_limit: Steps after which an episode ends.
        alphas: Risk levels in (0, 1]. At 1 all three values are the best mean.

    Returns:
        One point per level.

    Raises:
        ValueError: If a level is outside (0, 1].
        TooManyReturnsError: If the return so far takes too many values.
    """
    points = []
    for optimum in static_optima(mdp, alphas, step_limit=step_limit):
        nested, _ = nested_value_iteration(
            mdp, alpha=optimum.alpha, step_limit=step_limit
        )
        points.append(
            FrontierPoint(
                alpha=optimum.alpha,
                cvar=optimum.value,
                mean=optimum.mean,
                threshold=optimum.threshold,
                nested=float(nested[mdp.start]),
            )
        )
    return points
