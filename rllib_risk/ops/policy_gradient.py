"""Advantages and clipped losses of proximal policy optimisation (PPO).

Letters: ``B`` episodes, ``T`` steps, ``A`` actions, ``G`` learned values (1, or ``N``
agents).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rllib_risk.ops.quantile import huber
from rllib_risk.ops.shapes import check_shapes
from rllib_risk.ops.targets import lambda_returns, masked_mean


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    terminateds: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage estimation over whole episodes.

    ``A_t = delta_t + gamma lambda (1 - terminated_t) A_{t+1}`` with
    ``delta_t = r_t + gamma (1 - terminated_t) V_{t+1} - V_t``; Schulman et al.,
    "High-Dimensional Continuous Control Using Generalized Advantage Estimation" (ICLR
    2016), Eq. 16. The last real step has no ``A_{t+1}``. If a time limit truncated the
    episode, that step still bootstraps from ``V_{t+1}``. ``A_t + V_t`` is the
    TD(lambda) return.

    Args:
        rewards: Rewards, ``[B, T, 1]``.
        values: Values of every state, including the one after the last step,
            ``[B, T+1, G]``.
        terminateds: 1 where the episode terminated (not truncated), ``[B, T, 1]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        gamma: Discount in [0, 1].
        gae_lambda: ``lambda`` in [0, 1].

    Returns:
        ``[B, T, G]``; 0 in padding.
    """
    returns = lambda_returns(
        rewards, values[:, 1:], terminateds, mask, gamma=gamma, td_lambda=gae_lambda
    )
    advantages = returns - values[:, :-1]
    # A product with zero is not enough: padding may hold NaN or infinity.
    return torch.where(mask > 0, advantages, torch.zeros_like(advantages))


def standardized(
    values: Tensor,
    mask: Tensor,
    epsilon: float = 1e-5,
    mean: Callable[[Tensor, Tensor], Tensor] = masked_mean,
) -> Tensor:
    """Standardises values to mean 0 and standard deviation 1 over real steps.

    ``(x - mean) / (std + epsilon)`` with the population standard deviation, as in the
    code of Yu et al., 2022 (MAPPO).

    Args:
        values: Values to standardise, ``[B, T, G]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        epsilon: Added to the standard deviation, which is 0 if all values are equal.
        mean: Mean over real steps. With several learners, the mean over all of them.

    Returns:
        ``[B, T, G]``; 0 in padding.
    """
    centred = values - mean(values, mask)
    deviation = mean(centred.square(), mask).sqrt()
    scaled = centred / (deviation + epsilon)
    return torch.where(mask > 0, scaled, torch.zeros_like(scaled))


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's clipped surrogate objective as a loss.

    ``-min(x A, clip(x, 1 - c, 1 + c) A)``; Schulman et al., "Proximal Policy
    Optimization Algorithms" (2017), Eq. 7.

    Args:
        ratios: ``x``, probability of the action taken under the current policy, divided
            by its probability under the behaviour policy. Any shape.
        advantages: ``A``, of the same shape.
        clip: ``c``, the clipping range of the ratio.

    Returns:
        The loss per element.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(advantages=(ratios, advantages))
    clipped = ratios.clamp(1.0 - clip, 1.0 + clip)
    return -torch.minimum(ratios * advantages, clipped * advantages)


def clipped_value_losses(
    values: Tensor,
    old_values: Tensor,
    targets: Tensor,
    *,
    clip: float | None,
    huber_delta: float | None,
) -> Tensor:
    """PPO's value loss: the maximum of the plain and the clipped loss.

    ``max(l(y - V), l(y - V_old - clip(V - V_old, -c, c)))``, with ``l`` the Huber loss
    or half the square; Yu et al., "The Surprising Effectiveness of PPO in Cooperative
    Multi-Agent Games" (NeurIPS 2022), Section 3 and appendix.

    Args:
        values: ``V``, any shape.
        old_values: ``V_old``, the values before the update, of the same shape.
        targets: ``y``, of the same shape.
        clip: ``c``, the clipping range of the value. None: no clipping.
        huber_delta: Error at which the Huber loss becomes linear. None: half the
            squared error.

    Returns:
        The loss per element.

    Raises:
        ValueError: If the shapes differ.
    """
    check_shapes(values=(values, old_values, targets))

    def loss(error: Tensor) -> Tensor:
        return 0.5 * error**2 if huber_delta is None else huber(error, huber_delta)

    plain = loss(targets - values)
    if clip is None:
        return plain
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(plain, loss(targets - near))


def entropies(probabilities: Tensor) -> Tensor:
    """Entropy in nats, with a finite gradient where a probability is zero.

    Args:
        probabilities: Action probabilities, ``[..., A]``.

    Returns:
        Entropies ``[...]``.
    """
    # At 0 the derivative of p log p is infinite, and infinity times zero is NaN.
    possible = torch.where(probabilities > 0, probabilities, 1.0)
    return -(possible * possible.log()).sum(dim=-1)
