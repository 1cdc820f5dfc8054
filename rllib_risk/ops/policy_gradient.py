"""Advantages and clipped losses of proximal policy optimisation (PPO).

Letters: ``B`` episodes, ``T`` steps, ``A`` actions, ``G`` values that are learned (1,
or ``N`` agents).
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
    2016), Eq. 16. The last real step has no ``A_{t+1}``. If a time limit cut the
    episode, that step still has ``V_{t+1}``. ``A_t + V_t`` is the TD(lambda) return.

    Args:
        rewards: ``[B, T, 1]``.
        values: Of every state, the one after the last step included, ``[B, T+1, G]``.
        terminateds: 1 where the episode truly ended, ``[B, T, 1]``.
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
    # Cut out rather than multiplied by zero: padding may hold anything.
    return torch.where(mask > 0, advantages, torch.zeros_like(advantages))


def standardized(
    values: Tensor,
    mask: Tensor,
    epsilon: float = 1e-5,
    mean: Callable[[Tensor, Tensor], Tensor] = masked_mean,
) -> Tensor:
    """Shifts and scales values to mean 0 and standard deviation 1 over real steps.

    ``(x - mean) / (std + epsilon)`` with the population's standard deviation, as in
    the code of Yu et al., 2022 (MAPPO).

    Args:
        values: ``[B, T, G]``.
        mask: 1 on real steps, ``[B, T, 1]``.
        epsilon: Keeps the result finite where all values are equal.
        mean: The mean over real steps; another one if these are a part of the batch.

    Returns:
        ``[B, T, G]``; 0 in padding.
    """
    centred = values - mean(values, mask)
    deviation = mean(centred.square(), mask).sqrt()
    scaled = centred / (deviation + epsilon)
    return torch.where(mask > 0, scaled, torch.zeros_like(scaled))


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """PPO's clipped objective, as a loss.

    ``-min(x A, clip(x, 1 - c, 1 + c) A)``; Schulman et al., "Proximal Policy
    Optimization Algorithms" (2017), Eq. 7.

    Args:
        ratios: ``x``, probabilities of the actions taken under the present policy over
            those under the policy that took them, any shape.
        advantages: ``A``, of the same shape.
        clip: ``c``.

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
    """The critic's loss: the larger one of a plain and a clipped error.

    ``max(l(y - V), l(y - V_old - clip(V - V_old, -c, c)))``, with ``l`` the Huber loss
    or half the square; Yu et al., "The Surprising Effectiveness of PPO in Cooperative
    Multi-Agent Games" (NeurIPS 2022), Section 3 and appendix.

    Args:
        values: ``V``, any shape.
        old_values: ``V_old``, those before the update, of the same shape.
        targets: ``y``, of the same shape.
        clip: ``c``; None: the plain error alone.
        huber_delta: Where the Huber loss becomes linear; None: half the square.

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
        probabilities: ``[..., A]``.

    Returns:
        ``[...]``.
    """
    # At 0 the derivative of p log p is infinite, and infinity times zero is NaN.
    possible = torch.where(probabilities > 0, probabilities, 1.0)
    return -(possible * possible.log()).sum(dim=-1)
