"""Bellman targets over episodes or sequences, and masked operations.

Letters: ``B`` episodes, ``T`` steps, ``G`` the mixer's outputs (1, or ``N`` agents).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Replaces the utility of an unavailable action before a maximum is taken in learning.
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

    ``G_t = r_t + gamma (1 - terminated_t) [(1 - lambda) V_{t+1} + lambda G_{t+1}]``. At
    the last real step the bracket is ``V_{t+1}``: a truncated episode bootstraps from
    its last state. At a termination the target is the reward alone.

    Args:
        rewards: Rewards, ``[B, T, 1]``.
        next_values: Values of the next states, ``[B, T, G]``.
        terminateds: 1 where the episode terminated (not truncated), ``[B, T, 1]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        gamma: Discount in [0, 1].
        td_lambda: ``lambda`` in [0, 1].
        trace: 1 where the action taken counts as an action of the target policy,
            ``[B, T, 1]`` or ``[B, T, G]``. A 0 cuts the trace: rewards after that
            action do not enter earlier targets (Watkins' Q(lambda)). None: no cuts
            (Peng's Q(lambda)).

    Returns:
        Targets ``[B, T, G]``. Padded steps hold their (meaningless) one-step value.
    """
    discount = gamma * (1.0 - terminateds)
    if td_lambda == 0.0:
        return rewards + discount * next_values
    # Terms that do not depend on the following step, for all steps at once.
    weights: Sequence[float | Tensor]
    if trace is None:
        weights = [td_lambda] * (rewards.shape[1] - 1)
        own = ((1.0 - td_lambda) * next_values[:, :-1]).unbind(1)
    else:
        weight = td_lambda * trace[:, 1:]
        weights = weight.unbind(1)
        own = ((1.0 - weight) * next_values[:, :-1]).unbind(1)
    goes_on = (mask[:, 1:] > 0).unbind(1)
    values, paid, discounts = (x.unbind(1) for x in (next_values, rewards, discount))
    returns = [paid[-1] + discounts[-1] * values[-1]]
    for t in range(len(own) - 1, -1, -1):
        blended = own[t] + weights[t] * returns[-1]
        # If the next step is padding, this step is the last: bootstrap fully. A
        # weight of zero is not enough, because padding may hold NaN or infinity.
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
    """Tree-backup targets for off-policy episodes; Wang et al., 2021 (DOP).

    ``y_t = Q_t + sum_{l < n} (gamma lambda)^l [prod_{j=1..l} pi(u_{t+j})] delta_{t+l}``
    with ``delta_t = r_t + gamma (1 - terminated_t) E_pi Q_{t+1} - Q_t``. The less
    likely the policy is to take the logged actions, the less the later errors count.
    With one step, or lambda zero, the target is ``r_t + gamma E_pi Q_{t+1}``.

    Args:
        rewards: Rewards, ``[B, T, 1]``.
        values: Values of the joint actions taken, ``[B, T, 1]``.
        next_expected: Expected values of the next states under the policy,
            ``[B, T, 1]``.
        probabilities: The policy's probabilities of the joint actions taken,
            ``[B, T, 1]``.
        terminateds: 1 where the episode terminated (not truncated), ``[B, T, 1]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        gamma: Discount in [0, 1].
        backup_lambda: ``lambda`` in [0, 1].
        steps: ``n``, number of steps, at least 1.

    Returns:
        Targets ``[B, T, 1]``. Padded steps hold their value.
    """
    real = mask > 0
    errors = rewards + gamma * (1.0 - terminateds) * next_expected - values
    # A product with zero is not enough: padding may hold NaN or infinity.
    errors = torch.where(real, errors, torch.zeros_like(errors))
    decay = gamma * backup_lambda * probabilities
    decay = torch.where(real, decay, torch.zeros_like(decay))
    targets = values + errors
    trace = torch.ones_like(errors)
    for ahead in range(1, min(steps, errors.shape[1])):
        # [B, T - ahead, 1]: entry t takes the factor and the error of step t + ahead
        trace = trace[:, : errors.shape[1] - ahead] * decay[:, ahead:]
        targets[:, : errors.shape[1] - ahead] += trace * errors[:, ahead:]
    return targets


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``values`` over the steps where ``mask`` is 1, and over the last axis.

    Padding is selected out, not multiplied by zero, so even NaN in padding does not
    change the mean or its gradient.

    Args:
        values: Values ``[B, T, G]``.
        mask: 1 on real steps, ``[B, T, 1]``.

    Returns:
        A scalar.
    """
    real = mask.bool().expand_as(values)
    kept = torch.where(real, values, torch.zeros_like(values))
    return kept.sum() / real.sum().clamp(min=1)


def mask_utilities(utilities: Tensor, action_mask: Tensor) -> Tensor:
    """Replaces the utilities of unavailable actions by a very low number.

    Args:
        utilities: Utilities ``[..., A]``.
        action_mask: Nonzero where an action is available, ``[..., A]``.

    Returns:
        Masked utilities ``[..., A]``.
    """
    return torch.where(
        action_mask.bool(), utilities, utilities.new_tensor(UNAVAILABLE_UTILITY)
    )
