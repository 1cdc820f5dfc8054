"""Worst-case values over an uncertainty set of transition kernels.

There are two uncertainty sets around the nominal kernel ``P0`` of a history and a joint
action. Both are rectangular: every such pair has its own worst kernel. Both have a fail
state of value ``v_min`` that can be reached from every state:

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
    """Worst-case mean under contamination, for each sample.

    ``inf E[V] = (1 - rho) E[V] + rho v_min``.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape.
        rho: Fraction of the kernel that is replaced, in [0, 1].
        v_min: The lowest possible value.

    Returns:
        Samples of the shape of ``values``; their mean is the worst-case mean.
    """
    return (1.0 - rho) * values + rho * v_min


def contaminated_rewards(
    rewards: Tensor, gamma: float, rho: float, v_min: float, over: str
) -> tuple[Tensor, float]:
    """Rewards and discount that turn plain targets into contaminated targets.

    A contaminated mean is linear in the values. It therefore equals a plain mean with a
    smaller discount and with the fail state's part added to the reward: ``r + gamma
    [(1 - rho) V + rho v_min] = (r + gamma rho v_min) + gamma (1 - rho) V``. This also
    holds for lambda-returns.

    Args:
        rewards: Rewards, any shape.
        gamma: Discount in [0, 1].
        rho: Fraction of the kernel that is replaced, in [0, 1].
        v_min: The lowest possible value.
        over: What the kernel decides. ``next_value``: the next value only.
            ``transition``: the reward as well, ``(1 - rho)(r + gamma V) + rho v_min``.

    Returns:
        The changed rewards, of the same shape, and the changed discount.

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
    """Worst-case mean under total variation, for each sample and dual variable.

    ``inf E[V] = sup_eta {(1 - rho) eta - E[(eta - V)+]} + rho v_min``. The best ``eta``
    is the ``(1 - rho)``-quantile of ``V``: the probability ``rho`` of the best outcomes
    is moved to the fail state. Any other ``eta`` gives a lower value, so an error of
    the dual variable makes the estimate more pessimistic.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape.
        dual: ``eta`` of the same history and action, of the shape of ``values``.
        rho: Radius of the set, in [0, 1].
        v_min: The lowest possible value.

    Returns:
        Samples of the shape of ``values``; the mean over the samples of one pair is the
        worst-case mean.
    """
    shortfall = (dual - values).clamp(min=0.0)
    return (1.0 - rho) * dual - shortfall + rho * v_min


def dual_losses(
    values: Tensor, dual: Tensor, rho: float, kind: str, kappa: float = 0.0
) -> Tensor:
    """Loss of the dual variable, for each sample.

    ``pinball`` is the quantile loss at level ``1 - rho``. It differs from the dual of
    total variation, ``(eta - V)+ - (1 - rho) eta``, by a term without ``eta``.
    ``squared_released`` is the square of that dual, which the authors' code minimizes.
    Its minimum is not a quantile, and for positive values it pulls the worst-case mean
    to zero (derived in tests/ops/test_robust.py). Use it only to reproduce their
    numbers.

    Args:
        values: Samples of ``V`` under the nominal kernel, any shape, without gradient.
        dual: ``eta``, of the shape of ``values``.
        rho: Radius of the set, in [0, 1].
        kind: ``pinball`` or ``squared_released``.
        kappa: Errors of the quantile loss up to this size count squared, as in
            quantile Huber regression (Dabney et al., 2018); 0 for none.

    Returns:
        Losses of the shape of ``values``.
    """
    level = 1.0 - rho
    if kind == "squared_released":
        return ((dual - values).clamp(min=0.0) - level * dual).square()
    error = values - dual
    if kappa > 0.0:
        below = (error < 0.0).to(error)
        return (level - below).abs() * huber(error, kappa) / kappa
    return torch.maximum(level * error, (level - 1.0) * error)
