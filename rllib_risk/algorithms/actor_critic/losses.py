"""Targets and losses of the actor-critic algorithms COMA and DOP.

The critic's targets are computed for whole episodes at once. The critic then makes one
gradient step for each time index, one after the other. After that, the actor makes its
step.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``G`` outputs of the
critic's mixer (1, or ``N``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_risk.networks.critics import TeamCritic
from rllib_risk.ops.counterfactual import counterfactual_advantages
from rllib_risk.ops.targets import (
    lambda_returns,
    masked_mean,
    tree_backup_targets,
)
from rllib_risk.parts.batch import Batch


@dataclass(frozen=True)
class CriticTargetConfig:
    """Settings of the critic's targets, named like their keys.

    Attributes:
        gamma: Discount.
        reward_scale: Factor on rewards.
        td_lambda: Lambda of TD(lambda), for on-policy episodes.
        tree_backup_lambda: Lambda of tree backup, for off-policy episodes.
        tree_backup_steps: Steps of tree backup, for off-policy episodes.
    """

    gamma: float
    reward_scale: float
    td_lambda: float
    tree_backup_lambda: float
    tree_backup_steps: int


def with_last_actions(
    batch: Batch, probabilities: Tensor, generator: torch.Generator
) -> Tensor:
    """Returns the actions of every row, and draws those of the row after the last step.

    The target at a time limit bootstraps from the value of an action in that row. No
    action was taken there, so it is drawn from the policy. PyMARL chooses this action
    while it samples, with the same effect.

    Args:
        batch: The batch.
        probabilities: The policy, ``[B, T+1, N, A]``.
        generator: Source of the draws, on the CPU. The number of draws does not depend
            on the padding.

    Returns:
        Actions, int64 ``[B, T+1, N]``. Later rows repeat the drawn action.
    """
    episodes, rows, agents, actions = probabilities.shape
    noise = torch.rand(episodes, agents, actions, generator=generator)
    lengths = batch.mask.sum(dim=1).long()  # [B, 1]
    at = torch.arange(episodes, device=lengths.device)
    last = probabilities[at, lengths[:, 0]]  # [B, N, A]
    # Exponential race: action a has the smallest time with probability p_a.
    clocks = -torch.log1p(-noise.to(last))
    drawn = torch.where(last > 0, clocks / last, torch.inf).argmin(dim=-1)  # [B, N]
    padded = torch.cat([batch.actions, batch.actions[:, -1:]], dim=1)
    taken = torch.arange(rows, device=lengths.device) < lengths  # [B, T+1]
    return torch.where(taken.unsqueeze(-1), padded, drawn.unsqueeze(1))


def taken_values(values: Tensor, actions: Tensor) -> Tensor:
    """Selects values or probabilities ``[..., N, A]`` at the actions ``[..., N]``."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


@torch.no_grad()
def critic_targets(
    target_critic: TeamCritic,
    batch: Batch,
    actions: Tensor,
    probabilities: Tensor,
    config: CriticTargetConfig,
    on_policy: int,
) -> Tensor:
    """Computes the critic's targets: TD(lambda) on-policy, tree backup off-policy.

    Args:
        target_critic: The target critic.
        batch: The batch, its on-policy episodes first.
        actions: The result of :func:`with_last_actions`.
        probabilities: The current policy, ``[B, T+1, N, A]``.
        config: Settings of the targets.
        on_policy: Number of on-policy episodes.

    Returns:
        Targets, ``[B, T, G]``; ``G`` is 1 if there are off-policy episodes.
    """
    inputs = target_critic.inputs(batch.obs, batch.state, actions)
    all_values = target_critic(inputs)  # [B, T+1, N, A]
    values = target_critic.mix(taken_values(all_values, actions), batch.state)
    on, off = slice(None, on_policy), slice(on_policy, None)
    targets = lambda_returns(
        batch.rewards[on] * config.reward_scale,
        values[on, 1:],
        batch.terminateds[on],
        batch.mask[on],
        gamma=config.gamma,
        td_lambda=config.td_lambda,
    )
    if on_policy == len(values):
        return targets
    # The mixer is linear in the agents' values, so the mean of the mixed value is the
    # mixed value of the means.
    means = (probabilities[off] * all_values[off]).sum(dim=-1)  # [B, T+1, N]
    expected = target_critic.mix(means, batch.state[off])
    chosen = taken_values(probabilities[off, :-1], batch.actions[off])
    backed_up = tree_backup_targets(
        batch.rewards[off] * config.reward_scale,
        values[off, :-1],
        expected[:, 1:],
        chosen.prod(dim=-1, keepdim=True),
        batch.terminateds[off],
        batch.mask[off],
        gamma=config.gamma,
        backup_lambda=config.tree_backup_lambda,
        steps=config.tree_backup_steps,
    )
    return torch.cat([targets, backed_up])


def actor_loss(
    probabilities: Tensor, values: Tensor, weights: Tensor, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Computes the loss of the policy gradient, with expected values as baselines.

    ``-mean_{t,i} k_i A_i log pi_i(u_i)``, ``A_i = Q_i(u_i) - sum_a pi_i(a) Q_i(a)``;
    COMA Eq. 4 (``k`` = 1), and the stochastic DOP gradient.

    Args:
        probabilities: The policy, with gradients, ``[B, T, N, A]``.
        values: The critic's values, ``[B, T, N, A]``.
        weights: Weights ``k`` of the agents, ``[B, T, N]``.
        batch: The batch.

    Returns:
        The loss, and statistics to log.
    """
    taken = taken_values(probabilities, batch.actions)  # [B, T, N]
    with torch.no_grad():
        advantages = counterfactual_advantages(values, probabilities, batch.actions)
        entropy = torch.special.entr(probabilities).sum(dim=-1)
        stats = {
            "advantage_mean": masked_mean(advantages, batch.mask),
            "policy_entropy": masked_mean(entropy, batch.mask),
            "policy_max": masked_mean(probabilities.amax(dim=-1), batch.mask),
        }
    # Padding is replaced before the logarithm. The mask multiplies its gradient by 0,
    # which gives NaN if the gradient is not finite.
    real = batch.mask.bool().expand_as(taken)
    likely = torch.where(real, taken, torch.ones_like(taken))
    log_taken = likely.clamp_min(torch.finfo(taken.dtype).tiny).log()
    loss = -masked_mean(weights.detach() * advantages * log_taken, batch.mask)
    return loss, stats | {"actor_loss": loss.detach()}
