"""CVaR of a whole episode's return as an ordinary problem with one more input.

``CVaR_alpha(R) = max_b {b + E[min(R - b, 0)] / alpha}`` (Rockafellar and Uryasev,
2000). For a fixed threshold ``b`` the maximum over policies is an ordinary problem on
(observation, return so far), whose reward is what a step changes of ``u(x) = min(x - b,
0)``: Bauerle and Ott, "Markov Decision Processes with Average-Value-at-Risk Criteria"
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
    """``x_t = sum_{k < t} gamma^k r_k`` at every step.

    Args:
        rewards: Of consecutive steps, 0 where there is none, ``[B, T]``.
        gamma: Discount.
        first: The step of its episode at which each row begins, int64 ``[B]``; negative
            where steps stand before the episode. None: 0.
        earned: The return before that step, ``[B]``. None: 0.

    Returns:
        float64 ``[B, T + 1]``; it stays what it is where there are no rewards.
    """
    number = torch.arange(rewards.shape[1], device=rewards.device)
    if first is not None:
        number = (number + first.unsqueeze(-1)).clamp(min=0)
    weights = torch.pow(torch.tensor(gamma, dtype=torch.float64), number)
    total = (weights * rewards).cumsum(dim=-1)
    total = torch.cat([torch.zeros_like(total[:, :1]), total], dim=-1)
    return total if earned is None else total + earned.unsqueeze(-1)


def shortfall_rewards(returns: Tensor, thresholds: Tensor) -> Tensor:
    """What each step changes of ``u(x) = min(x - b, 0)``.

    Their sum over an episode is ``u(R) - u(0)``, whatever ``b`` is.

    Args:
        returns: Returns so far, ``[B, T + 1]``.
        thresholds: ``b``, ``[B, 1]``.

    Returns:
        ``[B, T]``.
    """
    return (returns - thresholds).clamp(max=0.0).diff(dim=-1)


def threshold_values(
    returns: np.ndarray, thresholds: np.ndarray, alpha: float
) -> np.ndarray:
    """``b + E[min(R_b - b, 0)] / alpha`` of every threshold, from sampled returns.

    The greatest of them is CVaR of the policy that is best for it, and none is greater
    than CVaR of its own returns.

    Args:
        returns: Of episodes that were played for each threshold, ``[C, R]``.
        thresholds: ``[C]``.
        alpha: Level in (0, 1].

    Returns:
        ``[C]``.
    """
    shortfall = np.minimum(returns - thresholds[:, None], 0.0)
    return np.asarray(thresholds + shortfall.mean(axis=1) / alpha)
