"""QTRAN's constraint losses, which tie the sum of utilities to the joint critic.

Source: Son et al., "QTRAN" (ICML 2019), Eq. 4a and 4b. The mixed value plus ``V(s)``
equals the critic's value at the greedy joint action. At any other joint action it is at
least the critic's value.
"""

from __future__ import annotations

from torch import Tensor

from rllib_risk.ops.shapes import check_shapes


def optimality_losses(best: Tensor, joint: Tensor, offset: Tensor) -> Tensor:
    """Computes ``L_opt``, the equality constraint at the greedy joint action.

    ``(Q_tot(u*) - Q_jt(u*) + V(s))^2``.

    Args:
        best: Mixed value of the greedy joint action, ``[B, T, 1]``.
        joint: The critic's value of the same joint action, without gradient,
            ``[B, T, 1]``.
        offset: ``V(s)``, ``[B, T, 1]``.

    Returns:
        Losses, ``[B, T, 1]``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(values=(best, joint, offset))
    return (best - joint + offset).square()


def nonoptimality_losses(taken: Tensor, joint: Tensor, offset: Tensor) -> Tensor:
    """Computes ``L_nopt``, the inequality constraint at the joint action taken.

    ``min(Q_tot(u) - Q_jt(u) + V(s), 0)^2``.

    Args:
        taken: Mixed value of the joint action taken, ``[B, T, 1]``.
        joint: The critic's value of the same joint action, without gradient,
            ``[B, T, 1]``.
        offset: ``V(s)``, ``[B, T, 1]``.

    Returns:
        Losses, ``[B, T, 1]``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(values=(taken, joint, offset))
    slack = taken - joint + offset
    return slack.clamp(max=0.0).square()
