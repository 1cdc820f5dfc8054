"""Hysteretic weights: team-mates' mistakes teach an independent learner less.

What an agent sees go wrong may be another agent's exploration. Hysteretic Q-learning
(Matignon et al., 2007) therefore lets surprises for the worse count less than those for
the better. LH-IQN (Lyu and Amato, 2020) gives back some of that weight where the return
was likely under the agent's own distribution: then the risk is the environment's own,
and must be learned. Weighted QMIX (Rashid et al., 2020) weighs a team's errors so.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``M`` quantiles, ``M2`` target
quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_risk.ops.shapes import check_shapes


@torch.no_grad()
def td_likelihood(
    samples: Tensor, fractions: Tensor, targets: Tensor, half_width: float
) -> Tensor:
    """How likely the targets are under the predicted distribution, in [0, 1].

    Neighbouring quantiles bound bins, in which the probability between their fractions
    is spread evenly. A target's likelihood is the probability within ``half_width`` of
    it; a bin without width adds none. The result is the mean over the targets.

    Samples and fractions are each sorted on their own. A quantile function rises, but a
    network's need not: kept as pairs, samples in the wrong order would make bins of
    negative probability. This is the monotone rearrangement of Chernozhukov et al.
    (2010); for samples in the right order both readings are one.

    Args:
        samples: Predicted quantiles, ``[..., M]`` in any order.
        fractions: The fractions they were asked for, ``[M]`` or ``[..., M]``.
        targets: Target quantiles, ``[..., M2]``.
        half_width: Above 0, in units of return. LH-IQN: ``0.5 / M``.

    Returns:
        ``[...]``, without gradient. Zero for a single quantile, which bounds no bin.
    """
    values = torch.sort(samples, dim=-1).values
    masses = torch.sort(fractions, dim=-1).values.diff(dim=-1)  # [..., M - 1]
    left, right = values[..., None, :-1], values[..., None, 1:]  # [..., 1, M - 1]
    center = targets.unsqueeze(-1)  # [..., M2, 1]
    overlap = torch.minimum(center + half_width, right) - torch.maximum(
        center - half_width, left
    )
    width = right - left
    share = overlap.clamp(min=0.0) / width.where(width > 0, torch.inf)
    return (masses.unsqueeze(-2) * share).sum(dim=-1).mean(dim=-1)


@torch.no_grad()
def hysteretic_weights(
    errors: Tensor, alpha: float, likelihood: Tensor | None = None
) -> Tensor:
    """Weight of each error: 1, or ``max(alpha, likelihood)`` where it is negative.

    Args:
        errors: Target minus value, ``[...]``; for quantiles the difference of means.
        alpha: Weight of a surprise for the worse, in [0, 1].
        likelihood: :func:`td_likelihood`, ``[...]``; None for plain hysteresis.

    Returns:
        ``[...]``, without gradient.

    Raises:
        ValueError: If ``alpha`` is outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"A hysteretic weight must be in [0, 1], not {alpha}.")
    worse = torch.full_like(errors, alpha)
    if likelihood is not None:
        worse = torch.maximum(worse, likelihood)
    return worse.where(errors < 0, 1.0)


@torch.no_grad()
def central_weights(
    actions: Tensor, greedy: Tensor, targets: Tensor, best: Tensor, alpha: float
) -> Tensor:
    """CW-QMIX's weights: 1 for the best joint action and for what may be better.

    Rashid et al., "Weighted QMIX" (NeurIPS 2020), Eq. 9, as released: 1 where every
    agent took its greedy action, or where the target is above what the target critic
    says of the greedy joint action; else ``alpha``.

    Args:
        actions: int64 ``[B, T, N]``.
        greedy: The greedy actions, int64 ``[B, T, N]``.
        targets: Targets of the actions taken, ``[B, T, 1]``.
        best: The target critic's value of the greedy joint action, ``[B, T, 1]``.
        alpha: The lesser weight.

    Returns:
        ``[B, T, 1]``, without gradient.

    Raises:
        ValueError: If shapes differ that must not.
    """
    check_shapes(actions=(actions, greedy), values=(targets, best))
    took_best = (actions == greedy).all(dim=-1, keepdim=True)
    full = took_best | (targets > best)
    return torch.where(full, 1.0, alpha)
