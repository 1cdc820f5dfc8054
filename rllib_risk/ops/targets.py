"""Bellman targets over whole episodes, and the masks that go with them.

Letters: ``B`` episodes, ``T`` steps, ``G`` the mixer's outputs (1, or ``N`` agents).
"""

from __future__ import annotations

import torch
from torch import Tensor

# The utility of an action that is not available, before any maximum in learning.
UNAVAILABLE_UTILITY = -9_999_999.0


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminateds: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    td_lambda: float = 0.0,
    trace: Tensor | None = None,
) -> Tensor:
    """TD(lambda) targets; with ``td_lambda`` zero the one-step targets.

    ``G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V_{t+1} + lambda G_{t+1}]``,
    and at the last real step ``V_{t+1}`` stands alone: a true end is worth its reward,
    a cut by the time limit still has the value of the state that it was cut in.

    Args:
        rewards: ``[B, T, 1]``.
        next_values: Value of the following state, ``[B, T, G]``.
        terminateds: 1 where the episode truly ended, ``[B, T, 1]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        gamma: Discount in [0, 1].
        td_lambda: Mixing parameter in [0, 1].
        trace: 1 where the action taken counts as the target policy's own, ``[B, T, 1]``
            or ``[B, T, G]``. Where it is 0, what came after that action does not enter
            the targets before it (Watkins' Q(lambda)). None lets all of it in (Peng's).

    Returns:
        ``[B, T, G]``. Padded steps hold their (meaningless) one-step value.
    """
    discount = gamma * (1.0 - terminateds)
    if td_lambda == 0.0:
        return rewards + discount * next_values
    steps = rewards.shape[1]
    returns = torch.empty_like(next_values)
    following = next_values[:, -1]
    for t in range(steps - 1, -1, -1):
        if t == steps - 1:
            blended = next_values[:, t]
        else:
            weight = td_lambda if trace is None else td_lambda * trace[:, t + 1]
            blended = (1.0 - weight) * next_values[:, t] + weight * following
            # Where the next step is padding, this one is the last: bootstrap fully. A
            # weight of zero would not do, if the padding is not finite.
            blended = torch.where(mask[:, t + 1] > 0, blended, next_values[:, t])
        following = rewards[:, t] + discount[:, t] * blended
        returns[:, t] = following
    return returns


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` over the steps where ``mask`` is 1, and over the last axis.

    Padding is cut out rather than multiplied by zero: whatever stands there, even NaN,
    leaves value and gradient alone.

    Args:
        values: ``[B, T, G]``.
        mask: ``[B, T, 1]``.

    Returns:
        A scalar.
    """
    real = mask.bool().expand_as(values)
    kept = torch.where(real, values, torch.zeros_like(values))
    return kept.sum() / real.sum().clamp(min=1)


def mask_utilities(utilities: Tensor, action_mask: Tensor) -> Tensor:
    """Replaces the utility of unavailable actions by a very low number.

    Args:
        utilities: ``[..., A]``.
        action_mask: Nonzero where the action is available, ``[..., A]``.

    Returns:
        ``[..., A]``.
    """
    return torch.where(
        action_mask.bool(), utilities, utilities.new_tensor(UNAVAILABLE_UTILITY)
    )
