"""The losses of value-based teams, parallel over time.

The order is always: encode online, encode target, target value, loss. Both networks see
the episode from its first step to the observation after its last.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``D`` observation size, ``M`` atoms, ``G`` outputs of the mixer (1, or ``N``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rllib_risk.models.team import TeamNetwork, Unroll
from rllib_risk.ops.quantile import (
    pairwise_quantile_huber_loss,
    quantile_fractions,
    quantile_huber_loss,
)
from rllib_risk.ops.targets import lambda_returns, masked_mean


@dataclass
class Batch:
    """A training batch as tensors.

    Attributes:
        obs: ``[B, T+1, N, D]``.
        state: ``[B, T+1, S]``.
        action_mask: ``[B, T+1, N, A]``.
        actions: int64 ``[B, T, N]``.
        rewards: ``[B, T, 1]``.
        terminateds: ``[B, T, 1]``.
        mask: ``[B, T, 1]``.
    """

    obs: Tensor
    state: Tensor
    action_mask: Tensor
    actions: Tensor
    rewards: Tensor
    terminateds: Tensor
    mask: Tensor


@dataclass
class Pass:
    """Both networks' view of a batch.

    Attributes:
        online: Encoded by the online network, ``T+1`` steps.
        target: Encoded by the target network, ``T+1`` steps.
        greedy: The actions of the target's maximum, int64 ``[B, T+1, N]``.
    """

    online: Unroll
    target: Unroll
    greedy: Tensor


def encode(
    network: TeamNetwork, target_network: TeamNetwork, batch: Batch, *, double_q: bool
) -> Pass:
    """Runs both networks over a batch.

    Args:
        network: The online network.
        target_network: The target network; it gets no gradient.
        batch: The batch.
        double_q: Whether the online network picks the greedy actions.

    Returns:
        What the losses share.
    """
    inputs = network.inputs(batch.obs, batch.actions)
    online = network.unroll(inputs)
    with torch.no_grad():
        target = target_network.unroll(inputs)
        chooser = (network, online) if double_q else (target_network, target)
        greedy = chooser[0].greedy_actions(chooser[1], batch.action_mask)
    return Pass(online, target, greedy)


@torch.no_grad()
def td_targets(
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    *,
    gamma: float,
    td_lambda: float = 0.0,
    watkins: bool = False,
    reward_scale: float = 1.0,
) -> Tensor:
    """Targets of the team's value; RMIX Eq. 5 and 6, and QMIX Eq. 6 for plain values.

    Args:
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        gamma: Discount.
        td_lambda: See :func:`rllib_risk.ops.targets.lambda_returns`.
        watkins: Whether a trace ends where an action was not greedy.
        reward_scale: Factor on rewards.

    Returns:
        ``[B, T, G]``.
    """
    following = slice(1, None)
    utilities = target_network.utilities_of(
        encoded.target.at(following), encoded.greedy[:, following]
    )
    next_values = target_network.mixer(utilities, batch.state[:, following])
    trace = None
    if watkins and td_lambda > 0.0:
        trace = (batch.actions == encoded.greedy[:, :-1]).to(next_values)  # [B, T, N]
        if next_values.shape[-1] == 1:
            trace = trace.prod(dim=-1, keepdim=True)
    return lambda_returns(
        batch.rewards * reward_scale,
        next_values,
        batch.terminateds,
        batch.mask,
        gamma=gamma,
        td_lambda=td_lambda,
        trace=trace,
    )


def td_loss(
    network: TeamNetwork, encoded: Pass, batch: Batch, targets: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared TD error over real steps (and agents, if they are independent).

    Args:
        network: The online network.
        encoded: From :func:`encode`.
        batch: The batch.
        targets: ``[B, T, G]``.

    Returns:
        The loss, and what to log of it.
    """
    taken = slice(None, -1)
    utilities = network.utilities_of(encoded.online.at(taken), batch.actions)
    values = network.mixer(utilities, batch.state[:, taken])  # [B, T, G]
    loss = masked_mean((values - targets).square(), batch.mask)
    with torch.no_grad():
        stats = {
            "td_loss": loss.detach(),
            "td_error_abs": masked_mean((values - targets).abs(), batch.mask),
            "q_taken_mean": masked_mean(values, batch.mask),
            "target_mean": masked_mean(targets, batch.mask),
        }
        logits = encoded.online.level_logits
        if logits is not None:
            levels = torch.tensor(network.risk.levels, device=logits.device)
            level = levels[logits[:, taken].argmax(dim=-1)]  # [B, T, N]
            stats["risk_level_mean"] = masked_mean(level, batch.mask)
    return loss, stats


@dataclass(frozen=True)
class QuantileLossConfig:
    """Switches of the quantile-regression loss; names are those of the keys.

    Attributes:
        gamma: Discount.
        qr_loss: ``qrdqn`` or ``official``.
        qr_fractions: ``midpoint`` or ``right_edge``.
        qr_kappa: Huber threshold.
        qr_target: ``cvar_dummy`` or ``implied_reward``.
    """

    gamma: float
    qr_loss: str = "qrdqn"
    qr_fractions: str = "midpoint"
    qr_kappa: float = 1.0
    qr_target: str = "cvar_dummy"


@torch.no_grad()
def quantile_targets(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: QuantileLossConfig,
) -> Tensor:
    """Target atoms of each agent; RMIX Eq. 7.

    ``T_j = c_i + gamma (1 - terminated) theta^-_{i,j}(tau', a*_i)`` with the agent's
    own CVaR ``c_i`` in the place of a reward, which the team has and the agent has not.

    Args:
        network: The online network.
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.

    Returns:
        ``[B, T, N, M]``.
    """
    following, taken = slice(1, None), slice(None, -1)
    next_features = encoded.target.features[:, following]
    next_atoms = target_network.atoms_of(next_features, encoded.greedy[:, following])
    dummy = network.utilities_of(encoded.online.at(taken), batch.actions)  # [B, T, N]
    discount = config.gamma * (1.0 - batch.terminateds)  # [B, T, 1]
    if config.qr_target == "implied_reward":
        # The reward for which CVaR of the target is CVaR now: then TD and QR agree.
        next_cvar = target_network.risk(
            next_atoms, encoded.target.at(following).level_logits
        )
        dummy = dummy - discount * next_cvar
    return dummy.unsqueeze(-1) + discount.unsqueeze(-1) * next_atoms


def quantile_loss(
    network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    targets: Tensor,
    config: QuantileLossConfig,
) -> Tensor:
    """Quantile regression of the chosen actions' atoms, mean over steps and agents.

    Args:
        network: The online network.
        encoded: From :func:`encode`.
        batch: The batch.
        targets: From :func:`quantile_targets`.
        config: Switches.

    Returns:
        A scalar.
    """
    taken = slice(None, -1)
    atoms = network.atoms_of(encoded.online.features[:, taken], batch.actions)
    fractions = quantile_fractions(atoms.shape[-1], config.qr_fractions).to(atoms)
    if config.qr_loss == "official":
        losses = pairwise_quantile_huber_loss(
            atoms, targets, fractions, config.qr_kappa, official=True
        )
    else:
        losses = quantile_huber_loss(atoms, targets, fractions, config.qr_kappa)
    return masked_mean(losses, batch.mask)
