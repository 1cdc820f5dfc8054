"""CVaR of an episode's return as a risk-neutral problem with a threshold input.

``CVaR_alpha(R) = max_b {b + E[min(R - b, 0)] / alpha}`` (Rockafellar and Uryasev,
2000). For a fixed threshold ``b``, the maximum over policies is a risk-neutral problem
on (observation, return so far). Its reward is the change of ``u(x) = min(x - b, 0)`` in
a step: Bauerle and Ott, "Markov Decision Processes with Average-Value-at-Risk Criteria"
(2011).

Letters: ``B`` episodes, ``T`` steps, ``R`` returns.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def returns_so_far(
    rewards: Tensor,
    gamma: float,
    first: Tensor | None = None,
    earned: Tensor | None = None,
) -> Tensor:
    """Returns so far, ``x_t = sum_{k < t} gamma^k r_k``, at every step.

    Args:
        rewards: Rewards of consecutive steps, 0 in padding, ``[B, T]``.
        gamma: Discount.
        first: Step of the episode at which each row begins, int64 ``[B]``. It is
            negative if the row has padding before the episode. None: 0.
        earned: The return before that step, ``[B]``. None: 0.

    Returns:
        float64 ``[B, T + 1]``; it stays constant in padding.
    """
    number = torch.arange(rewards.shape[1], device=rewards.device)
    if first is not None:
        number = (number + first.unsqueeze(-1)).clamp(min=0)
    weights = torch.pow(torch.tensor(gamma, dtype=torch.float64), number)
    total = (weights * rewards).cumsum(dim=-1)
    total = torch.cat([torch.zeros_like(total[:, :1]), total], dim=-1)
    return total if earned is None else total + earned.unsqueeze(-1)


def shortfall_rewards(returns: Tensor, thresholds: Tensor) -> Tensor:
    """Change of the shortfall utility ``u(x) = min(x - b, 0)`` at each step.

    The sum over an episode is ``u(R) - u(0)`` for every ``b``.

    Args:
        returns: Returns so far, ``[B, T + 1]``.
        thresholds: Thresholds ``b``, ``[B, 1]``.

    Returns:
        Rewards ``[B, T]``.
    """
    return (returns - thresholds).clamp(max=0.0).diff(dim=-1)


def threshold_values(
    returns: np.ndarray, thresholds: np.ndarray, alpha: float
) -> np.ndarray:
    """Estimates ``b + E[min(R_b - b, 0)] / alpha`` for every threshold.

    Each value is at most the CVaR of its own returns. The highest value is the CVaR of
    the policy for its threshold, if that policy is optimal.

    Args:
        returns: Returns of the episodes played with each threshold, ``[C, R]``.
        thresholds: Thresholds ``b``, ``[C]``.
        alpha: Risk level in (0, 1].

    Returns:
        Values ``[C]``.
    """
    shortfall = np.minimum(returns - thresholds[:, None], 0.0)
    return np.asarray(thresholds + shortfall.mean(axis=1) / alpha)
