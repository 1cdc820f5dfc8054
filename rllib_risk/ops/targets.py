"""Bellman targets over episodes or parts of them, and the masks that go with them.

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
    weight = td_lambda if trace is None else td_lambda * trace[:, 1:]
    # All that does not depend on the step after is computed for all steps at once.
    own = ((1.0 - weight) * next_values[:, :-1]).unbind(1)
    goes_on = (mask[:, 1:] > 0).unbind(1)
    weights = None if trace is None else weight.unbind(1)
    values, paid, discounts = (x.unbind(1) for x in (next_values, rewards, discount))
    returns = [paid[-1] + discounts[-1] * values[-1]]
    for t in range(len(own) - 1, -1, -1):
        blended = own[t] + (td_lambda if weights is None else weights[t]) * returns[-1]
        # Where the next step is padding, this one is the last: bootstrap fully. A
        # weight of zero would not do, if the padding is not finite.
        blended = torch.where(goes_on[t], blended, values[t])
        returns.append(paid[t] + discounts[t] * blended)
    return torch.stack(returns[::-1], dim=1)


def tree_backup_targets(
    rewards: Tensor,
    values: Tensor,
    next_expected: Tensor,
    probabilities: Tensor,
    terminateds: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    backup_lambda: float,
    steps: int,
) -> Tensor:
    """Tree-backup targets from episodes of another policy; Wang et al., 2021 (DOP).

    ``y_t = Q_t + sum_{l < n} (gamma lambda)^l [prod_{j=1..l} pi(u_{t+j})] delta_{t+l}``
    with ``delta_t = r_t + gamma (1 - terminated_t) E_pi Q_{t+1} - Q_t``: what the
    policy would not have done itself counts the less, the less likely it is. With one
    step, or lambda zero, it is ``r_t + gamma E_pi Q_{t+1}``.

    Args:
        rewards: ``[B, T, 1]``.
        values: Value of what was done, ``[B, T, 1]``.
        next_expected: Expected value of the following state under the policy,
            ``[B, T, 1]``.
        probabilities: The policy's probability of the joint action that was done,
            ``[B, T, 1]``.
        terminateds: 1 where the episode truly ended, ``[B, T, 1]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        gamma: Discount in [0, 1].
        backup_lambda: ``lambda`` in [0, 1].
        steps: ``n``, at least 1.

    Returns:
        ``[B, T, 1]``. Padded steps hold their value.
    """
    real = mask > 0
    errors = rewards + gamma * (1.0 - terminateds) * next_expected - values
    # Cut out rather than multiplied by zero: padding may hold anything.
    errors = torch.where(real, errors, torch.zeros_like(errors))
    decay = gamma * backup_lambda * probabilities
    decay = torch.where(real, decay, torch.zeros_like(decay))
    targets = values + errors
    trace = torch.ones_like(errors)
    for ahead in range(1, min(steps, errors.shape[1])):
        # [B, T - ahead, 1]: from t, what stands at t + ahead
        trace = trace[:, : errors.shape[1] - ahead] * decay[:, ahead:]
        targets[:, : errors.shape[1] - ahead] += trace * errors[:, ahead:]
    return targets


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
