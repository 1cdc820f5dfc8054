"""QTRAN's constraints, which tie a sum of utilities to an unrestricted value.

Source: Son et al., "QTRAN" (ICML 2019), Eq. 4a and 4b. With ``V(s)`` added, the mixed
value is the critic's at the greedy joint action, and nowhere below it.
"""

from __future__ import annotations

from torch import Tensor

from rllib_risk.ops.shapes import check_shapes


def optimality_losses(best: Tensor, joint: Tensor, offset: Tensor) -> Tensor:
    """``L_opt``: the constraint at the greedy joint action, an equality.

    ``(Q_tot(u*) - Q_jt(u*) + V(s))^2``.

    Args:
        best: Mixed value of the greedy joint action, ``[B, T, 1]``.
        joint: The critic's value of the same; no gradient, ``[B, T, 1]``.
        offset: ``V(s)``, ``[B, T, 1]``.

    Returns:
        ``[B, T, 1]``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(values=(best, joint, offset))
    return (best - joint + offset).square()


def nonoptimality_losses(taken: Tensor, joint: Tensor, offset: Tensor) -> Tensor:
    """``L_nopt``: the constraint at any other joint action, a lower bound.

    ``min(Q_tot(u) - Q_jt(u) + V(s), 0)^2``.

    Args:
        taken: Mixed value of the joint action that was taken, ``[B, T, 1]``.
        joint: The critic's value of the same; no gradient, ``[B, T, 1]``.
        offset: ``V(s)``, ``[B, T, 1]``.

    Returns:
        ``[B, T, 1]``.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(values=(taken, joint, offset))
    slack = taken - joint + offset
    return slack.clamp(max=0.0).square()
