"""Worst cases of the value of what follows, over a set of transition kernels.

Two sets around the nominal kernel ``P0`` of a history and a joint action, each with its
own worst kernel in every such pair (rectangular), and each with a fail state of value
``v_min`` that can be reached from everywhere:

* contamination, ``(1 - rho) P0 + rho nu`` for any ``nu``;
* total variation, every ``P`` with ``||P - P0||_1 / 2 <= rho``.

Source: Qu et al., "Distributionally Robust Cooperative Multi-Agent Reinforcement
Learning via Robust Value Factorization" (ICLR 2026), where ``v_min`` is 0; the dual of
total variation after Panaganti et al. (2022, RFQI).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_risk.ops.quantile import huber


def contaminate(values: Tensor, rho: float, v_min: float) -> Tensor:
    """The worst mean under contamination, sample by sample.

    ``inf E[V] = (1 - rho) E[V] + rho v_min``.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape.
        rho: Share of the kernel that is replaced, in [0, 1].
        v_min: The least value there is.

    Returns:
        As ``values``; the mean over samples is the worst mean.
    """
    return (1.0 - rho) * values + rho * v_min


def contaminated_rewards(
    rewards: Tensor, gamma: float, rho: float, v_min: float, over: str
) -> tuple[Tensor, float]:
    """The rewards and the discount whose plain targets are contaminated ones.

    A contaminated mean is linear in the values, so it needs no more than less of them,
    and the fail state's share in the reward: ``r + gamma [(1 - rho) V + rho v_min] = (r
    + gamma rho v_min) + gamma (1 - rho) V``. This holds for lambda-returns as well.

    Args:
        rewards: Any shape.
        gamma: Discount in [0, 1].
        rho: Share of the kernel that is replaced, in [0, 1].
        v_min: The least value there is.
        over: What the kernel decides: ``next_value``, or ``transition``, the reward
            with it: ``(1 - rho)(r + gamma V) + rho v_min``.

    Returns:
        Rewards of the same shape, and the discount.

    Raises:
        ValueError: If ``over`` is unknown.
    """
    if over == "transition":
        rewards = contaminate(rewards, rho, v_min)
    elif over == "next_value":
        rewards = rewards + gamma * (rho * v_min)
    else:
        raise ValueError(f"over must be next_value or transition, not {over!r}.")
    return rewards, gamma * (1.0 - rho)


def worst_tv(values: Tensor, dual: Tensor, rho: float, v_min: float) -> Tensor:
    """The worst mean under total variation, sample by sample, for a dual variable.

    ``inf E[V] = sup_eta {(1 - rho) eta - E[(eta - V)+]} + rho v_min``, and the best
    ``eta`` is the ``(1 - rho)``-quantile of ``V``: the mass ``rho`` of the best
    outcomes is moved to the fail state. Any other ``eta`` gives less, so an error of
    the dual variable errs on the safe side.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape.
        dual: ``eta`` of the same history and action, as ``values``.
        rho: Radius in [0, 1].
        v_min: The least value there is.

    Returns:
        As ``values``; the mean over samples of one pair is the worst mean.
    """
    shortfall = (dual - values).clamp(min=0.0)
    return (1.0 - rho) * dual - shortfall + rho * v_min


def dual_losses(
    values: Tensor, dual: Tensor, rho: float, kind: str, kappa: float = 0.0
) -> Tensor:
    """What the dual variable minimizes, sample by sample.

    ``pinball`` is the quantile loss at level ``1 - rho``. It differs from the dual of
    total variation, ``(eta - V)+ - (1 - rho) eta``, by a term without ``eta``.
    ``squared_released`` is the square of that dual, which the authors' code minimizes:
    its minimum is no quantile, and for positive values it draws the worst mean to zero
    (tests/ops/test_robust.py works it out). It is there to repeat their numbers.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape; no gradient.
        dual: ``eta``, as ``values``.
        rho: Radius in [0, 1].
        kind: ``pinball`` or ``squared_released``.
        kappa: Errors of the quantile loss up to this size count squared, as in
            quantile Huber regression (Dabney et al., 2018); 0 for none.

    Returns:
        As ``values``.
    """
    level = 1.0 - rho
    if kind == "squared_released":
        return ((dual - values).clamp(min=0.0) - level * dual).square()
    error = values - dual
    if kappa > 0.0:
        below = (error < 0.0).to(error)
        return (level - below).abs() * huber(error, kappa) / kappa
    return torch.maximum(level * error, (level - 1.0) * error)
