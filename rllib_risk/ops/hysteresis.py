"""Hysteretic weights: negative TD errors count less than positive ones.

A low return may be the result of another agent's exploration. Hysteretic Q-learning
(Matignon et al., 2007) therefore gives negative TD errors a smaller weight. LH-IQN (Lyu
and Amato, 2020) raises that weight where the return was likely under the agent's own
distribution: then the risk comes from the environment and must be learned. Weighted
QMIX (Rashid et al., 2020) weights the errors of a team in a similar way.

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
    """Likelihood of the targets under the predicted distribution, in [0, 1].

    Neighbouring quantiles are the edges of a bin. The probability between their
    fractions is spread evenly over the bin. The likelihood of a target is the
    probability within ``half_width`` of it; a bin of zero width adds nothing. The
    result is the mean over the targets.

    Samples and fractions are sorted separately. A quantile function increases, but a
    network's output may not. Sorted as pairs, samples in the wrong order would give
    bins of negative probability. This is the monotone rearrangement of Chernozhukov et
    al. (2010). For samples in the right order, both ways give the same result.

    Args:
        samples: Predicted quantiles, ``[..., M]`` in any order.
        fractions: Fractions of the predicted quantiles, ``[M]`` or ``[..., M]``.
        targets: Target quantiles, ``[..., M2]``.
        half_width: Half width of the window around a target, above 0, in units of
            return. LH-IQN uses ``0.5 / M``.

    Returns:
        ``[...]``, without gradient. Zero for a single quantile, which forms no bin.
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
        errors: TD errors: target minus value, ``[...]``. For quantiles, the difference
            of the means.
        alpha: Weight of a negative error, in [0, 1].
        likelihood: Result of :func:`td_likelihood`, ``[...]``; None for plain
            hysteresis.

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
    """Weights of CW-QMIX: 1 for the greedy joint action and for better targets.

    Rashid et al., "Weighted QMIX" (NeurIPS 2020), Eq. 9, as in the released code. The
    weight is 1 where every agent took its greedy action. It is also 1 where the target
    is above the target critic's value of the greedy joint action. Elsewhere it is
    ``alpha``.

    Args:
        actions: Actions taken, int64 ``[B, T, N]``.
        greedy: Greedy actions, int64 ``[B, T, N]``.
        targets: Targets of the actions taken, ``[B, T, 1]``.
        best: The target critic's value of the greedy joint action, ``[B, T, 1]``.
        alpha: The smaller weight, in [0, 1].

    Returns:
        ``[B, T, 1]``, without gradient.

    Raises:
        ValueError: If the shapes do not match.
    """
    check_shapes(actions=(actions, greedy), values=(targets, best))
    took_best = (actions == greedy).all(dim=-1, keepdim=True)
    full = took_best | (targets > best)
    return torch.where(full, 1.0, alpha)
