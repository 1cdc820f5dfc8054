"""The losses of value-based teams, parallel over time.

The order is always: encode online, encode target, target value, loss. Both networks see
the episode from its first step to the observation after its last.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``D`` observation size, ``M`` atoms, ``G`` outputs of the mixer (1, or ``N``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from rllib_risk.networks.dual import DualNetwork
from rllib_risk.ops.conservative import conservative_penalty
from rllib_risk.ops.hysteresis import hysteretic_weights, td_likelihood
from rllib_risk.ops.quantile import (
    pairwise_quantile_huber_loss,
    quantile_fractions,
    quantile_huber_loss,
)
from rllib_risk.ops.robust import dual_losses, worst_tv
from rllib_risk.ops.targets import lambda_returns, mask_utilities, masked_mean
from rllib_risk.parts.critics.qtran import QtranCritic
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll, pick_steps

# Steps of an episode: those at which something was done, and those that followed.
_TAKEN, _FOLLOWING = slice(None, -1), slice(1, None)


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
        previous: The actions before the first observation, int64 ``[B, N]``; -1 where
            an episode begins; None: all rows are whole episodes.
        first: The step of its episode at which each row begins, int64 ``[B]``; None:
            as above.
        learned: The steps of each row that are learned from, and the one after, int64
            ``[B, L+1]`` with ``T`` beyond the end; those before them fill a memory.
            None: all.
    """

    obs: Tensor
    state: Tensor
    action_mask: Tensor
    actions: Tensor
    rewards: Tensor
    terminateds: Tensor
    mask: Tensor
    previous: Tensor | None = None
    first: Tensor | None = None
    learned: Tensor | None = None

    def stretch(self) -> Batch:
        """The steps that are learned from, without those that only fill a memory.

        They are all that a loss reads once both networks have gone through the rows.
        """
        if self.learned is None:
            return self
        done = self.learned[:, _TAKEN]
        within = (done < self.mask.shape[1]).unsqueeze(-1)
        return Batch(
            obs=pick_steps(self.obs, self.learned),
            state=pick_steps(self.state, self.learned),
            action_mask=pick_steps(self.action_mask, self.learned),
            actions=pick_steps(self.actions, done),
            rewards=pick_steps(self.rewards, done),
            terminateds=pick_steps(self.terminateds, done),
            mask=pick_steps(self.mask, done) * within,
        )


def learned_steps(mask: np.ndarray) -> np.ndarray | None:
    """Which steps a batch's rows are learned from.

    Args:
        mask: 1 for these steps, which follow one another, ``[B, T]``.

    Returns:
        See :attr:`Batch.learned`; None if every row begins with such a step.
    """
    begins = mask.argmax(axis=1)
    if not begins.any():
        return None
    length = int(mask.sum(axis=1).max())
    return np.minimum(begins[:, None] + np.arange(length + 1), mask.shape[1])


@dataclass
class Pass:
    """The outputs of the online and the target network for one batch.

    Attributes:
        encode_online: Gives :attr:`online`.
        look: Gives any of the ``T+1`` steps, encoded by the target network.
        choose: Gives the actions of the target's maximum, int64 ``[B, ., N]``, at any
            of these steps.
    """

    encode_online: Callable[[], Unroll]
    look: Callable[[slice], Unroll]
    choose: Callable[[slice, Unroll | None], Tensor]

    @functools.cached_property
    def online(self) -> Unroll:
        """The ``T`` steps with an action, encoded by the online network.

        Steps that only fill a memory are left out.
        """
        return self.encode_online()

    @functools.cached_property
    def target(self) -> Unroll:
        """The same steps as :attr:`online`, encoded by the target network."""
        return self.look(_TAKEN)

    @functools.cached_property
    def following(self) -> Unroll:
        """What followed each of these steps, encoded by the target network."""
        return self.look(_FOLLOWING)

    @functools.cached_property
    def greedy(self) -> Tensor:
        """The actions of the target's maximum at each step, int64 ``[B, T, N]``."""
        first = self.choose(slice(1), None)
        return torch.cat([first, self.greedy_following[:, :-1]], dim=1)

    @functools.cached_property
    def greedy_following(self) -> Tensor:
        """The same where each step led to, int64 ``[B, T, N]``."""
        return self.choose(_FOLLOWING, self.following)


@dataclass(frozen=True)
class LossConfig:
    """Switches of the losses; names are those of the configuration's keys.

    Attributes:
        gamma: Discount.
        reward_scale: Factor on rewards.
        td_lambda: See :func:`rllib_risk.ops.targets.lambda_returns`.
        watkins: Whether a trace ends where an action was not greedy.
        loss: ``td``, ``quantile``, ``qtran`` or ``bc``.
        opt_weight: Weight of QTRAN's ``L_opt``.
        nopt_weight: Weight of QTRAN's ``L_nopt``.
        td_weighting: ``none``, ``ow``, ``cw`` or ``likelihood``.
        td_weighting_alpha: The lesser weight.
        target: ``plain``, ``contamination`` or ``tv``.
        rho: Size of the uncertainty set.
        v_min: Value of the fail state, scaled as rewards are.
        robust_over: ``next_value`` or ``transition``.
        dual_loss: ``pinball`` or ``squared_released``.
        dual_bounds: Least and greatest dual variable, scaled as rewards are.
        qr_loss: ``qrdqn`` or ``official``.
        qr_fractions: ``midpoint`` or ``right_edge``.
        qr_kappa: Huber threshold.
        qr_target: ``cvar_dummy`` or ``implied_reward``.
        conservative_weight: Of the conservative penalty; None: there is none.
        conservative_on: ``quantiles`` or ``mean``.
        tail_level: Share of the lower tail whose quantiles atoms are.
        stats: Whether somebody reads what there is to log; of most updates nobody does.
    """

    gamma: float
    reward_scale: float = 1.0
    td_lambda: float = 0.0
    watkins: bool = False
    loss: str = "td"
    opt_weight: float = 1.0
    nopt_weight: float = 0.1
    td_weighting: str = "none"
    td_weighting_alpha: float = 0.1
    target: str = "plain"
    rho: float = 0.0
    v_min: float = 0.0
    robust_over: str = "next_value"
    dual_loss: str = "pinball"
    dual_bounds: tuple[float, float] | None = None
    qr_loss: str = "qrdqn"
    qr_fractions: str = "midpoint"
    qr_kappa: float = 1.0
    qr_target: str = "cvar_dummy"
    conservative_weight: float | None = None
    conservative_on: str = "quantiles"
    tail_level: float = 1.0
    stats: bool = True


# Up to so many atoms their pairs are dealt with faster than they are sorted.
_FEW_ATOMS = 8


def encode(
    network: TeamNetwork,
    target_network: TeamNetwork,
    batch: Batch,
    *,
    double_q: bool,
    window: int | None = None,
    generator: torch.Generator | None = None,
) -> Pass:
    """Runs both networks over a batch.

    With a ``window`` of ``W`` steps the memory behind the next values begins one step
    later than the row, so that the present and the next value of a row of ``W`` steps
    look through ``W`` steps each. A row that begins with its episode, and so has fewer
    steps before the first learned one, stays as it is: its next window is one longer.

    Args:
        network: The online network; the target network too, where nothing of the online
            one is asked.
        target_network: The target network; it gets no gradient.
        batch: The batch.
        double_q: Whether the online network picks the greedy actions.
        window: See above; None: the memory behind the next values begins with the row.
        generator: Source of the fractions of sampled quantiles.

    Returns:
        What the losses share.
    """
    if window is not None:
        return _encode_windows(
            network, target_network, batch, double_q, window, generator
        )
    inputs = network.inputs(batch.obs, batch.actions, batch.previous)
    learned, action_mask = batch.learned, batch.action_mask
    if learned is not None:
        action_mask = pick_steps(action_mask, learned)

    def values_at(unroll: Unroll) -> Unroll:
        """Without the steps that have done their work once the memory is filled."""
        if learned is None:
            return unroll
        every = unroll.features.shape[1] == inputs.shape[1]
        return unroll.pick(learned if every else learned[:, _TAKEN])

    # Nobody asks the online network of the last step, unless it is to choose there.
    whole = double_q or network is target_network
    online = network.unroll(inputs if whole else inputs[:, _TAKEN], generator)
    online = values_at(online)
    taken = online.at(_TAKEN) if whole else online

    if network is target_network:
        look = online.at
    elif network.is_memoryless and learned is None:
        # Every step stands for itself, and most losses ask for one end only.
        def look(steps: slice) -> Unroll:
            with torch.no_grad():
                return target_network.unroll(inputs[:, steps])
    else:
        with torch.no_grad():
            look = values_at(target_network.unroll(inputs, generator)).at

    @torch.no_grad()
    def choose(steps: slice, target: Unroll | None) -> Tensor:
        mask = action_mask[:, steps]
        if double_q:
            return network.greedy_actions(online.at(steps), mask)
        return target_network.greedy_actions(target or look(steps), mask)

    return Pass(lambda: taken, look, choose)


def _encode_windows(
    network: TeamNetwork,
    target_network: TeamNetwork,
    batch: Batch,
    double_q: bool,
    window: int,
    generator: torch.Generator | None,
) -> Pass:
    """:func:`encode` with a window; each view is made when it is asked for."""
    inputs = network.inputs(batch.obs, batch.actions, batch.previous)
    rows = torch.arange(inputs.shape[1], device=inputs.device)
    learned = rows.expand(len(inputs), -1) if batch.learned is None else batch.learned
    action_mask = pick_steps(batch.action_mask, learned)

    def present(which: TeamNetwork) -> Unroll:
        unroll = which.unroll(inputs[:, _TAKEN], generator)
        return unroll.pick(learned[:, _TAKEN])

    @functools.cache
    @torch.no_grad()
    def following(which: TeamNetwork) -> Unroll:
        full = (learned[:, :1] == window - 1).long()  # [B, 1]; these begin one later
        later = inputs[:, 1:] if full.all() else pick_steps(inputs, rows + full)
        return which.unroll(later, generator).pick(learned[:, _FOLLOWING] - full)

    without_gradient = functools.cache(torch.no_grad()(present))

    def look_with(which: TeamNetwork, steps: slice) -> Unroll:
        if steps == _FOLLOWING:
            return following(which)
        taken = without_gradient(which)
        return taken if steps == _TAKEN else taken.at(steps)

    @torch.no_grad()
    def choose(steps: slice, target: Unroll | None) -> Tensor:
        mask = action_mask[:, steps]
        if double_q:
            return network.greedy_actions(look_with(network, steps), mask)
        view = target or look_with(target_network, steps)
        return target_network.greedy_actions(view, mask)

    look = functools.partial(look_with, target_network)
    return Pass(functools.partial(present, network), look, choose)


def team_loss(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
    dual: DualNetwork | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What one update of the networks minimizes, RMIX's quantile regression apart.

    Args:
        network: The online network.
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.
        dual: The dual variable, where the target is robust to total variation.

    Returns:
        A scalar, and what to log of it.
    """
    if config.loss == "bc":
        # Minus the log-likelihood of the data under the softmax of the utilities.
        return conservative_loss(network, encoded, batch, config)
    weight = config.conservative_weight
    if weight is None:
        return _value_loss(network, target_network, encoded, batch, config, dual)
    more: dict[str, Tensor] = {}
    if weight > 0.0:
        # First, since it needs all atoms, and the others take theirs out of them.
        penalty, more = conservative_loss(network, encoded, batch, config)
    elif config.stats:
        with torch.no_grad():
            more = conservative_loss(network, encoded, batch, config)[1]
    loss, stats = _value_loss(network, target_network, encoded, batch, config, dual)
    # So that the weight means the same for numbers as for however many atoms: half the
    # squared error, and half the mean of the atoms' losses (theirs is a sum).
    loss = loss / (2 * (network.num_atoms if config.loss == "quantile" else 1))
    if weight > 0.0:
        loss = loss + weight * penalty
    return loss, stats | more


def _value_loss(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
    dual: DualNetwork | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    if config.loss == "quantile":
        return distributional_loss(network, target_network, encoded, batch, config)
    targets = td_targets(target_network, encoded, batch, config, dual)
    if network.joint_critic is None:
        return td_loss(network, target_network, encoded, batch, targets, config)
    online, state = encoded.online, batch.state[:, _TAKEN]
    joint = network.joint_values_of(online, batch.actions, state)
    critic_loss = masked_mean((joint - targets).square(), batch.mask)
    if config.loss == "qtran":
        loss, stats = qtran_loss(network, encoded, batch, joint.detach(), config)
    else:
        loss, stats = td_loss(network, target_network, encoded, batch, targets, config)
    with torch.no_grad():
        stats["critic_loss"] = critic_loss.detach()
        stats["critic_taken_mean"] = masked_mean(joint, batch.mask)
    return loss + critic_loss, stats


@torch.no_grad()
def td_targets(
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
    dual: DualNetwork | None = None,
) -> Tensor:
    """Targets of the team's value; RMIX Eq. 5 and 6, and QMIX Eq. 6 for plain values.

    The value of the next state comes from the joint critic, where there is one. Robust
    targets (Qu et al., ICLR 2026) replace its mean by the worst mean over a set of
    transition kernels. A true end is an outcome like any other, of value 0.

    Args:
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.
        dual: The dual variable, where the target is robust to total variation.

    Returns:
        ``[B, T, G]``; zero in the padding.
    """
    next_values = _next_values(target_network, encoded, batch)
    rewards = batch.rewards * config.reward_scale
    gamma = config.gamma
    if config.target == "tv":
        targets = _tv_targets(next_values, rewards, batch, config, dual)
    else:
        if config.target == "contamination":
            # Linear in the next value: less of it, and the fail state's share of the
            # reward. So lambda-returns need nothing else.
            kept, fails = 1.0 - config.rho, config.rho * config.v_min
            if config.robust_over == "transition":
                rewards = kept * rewards + fails
            else:
                rewards = rewards + gamma * fails
            gamma *= kept
        targets = lambda_returns(
            rewards,
            next_values,
            batch.terminateds,
            batch.mask,
            gamma=gamma,
            td_lambda=config.td_lambda,
            trace=_trace(next_values, encoded, batch, config),
        )
    # An error that is not finite would make NaN of a gradient that is masked later.
    return torch.where(batch.mask > 0, targets, 0.0)


def _next_values(target_network: TeamNetwork, encoded: Pass, batch: Batch) -> Tensor:
    """The value of what follows each step, ``[B, T, G]``."""
    target, greedy = encoded.following, encoded.greedy_following
    state, action_mask = batch.state[:, _FOLLOWING], batch.action_mask[:, _FOLLOWING]
    if target_network.joint_critic is None:
        return target_network.values_of(target, greedy, state, action_mask)
    return target_network.joint_values_of(target, greedy, state)


def _trace(
    next_values: Tensor, encoded: Pass, batch: Batch, config: LossConfig
) -> Tensor | None:
    """1 where Watkins' Q(lambda) goes on; None where every trace does."""
    if not config.watkins or config.td_lambda == 0.0:
        return None
    trace = (batch.actions == encoded.greedy).to(next_values)
    if next_values.shape[-1] == 1:
        trace = trace.prod(dim=-1, keepdim=True)
    return trace


def _outcomes(
    next_values: Tensor, rewards: Tensor, batch: Batch, config: LossConfig
) -> Tensor:
    """What the transition decides: the next value, or the reward with it."""
    values = (1.0 - batch.terminateds) * next_values
    if config.robust_over == "transition":
        return rewards + config.gamma * values
    return values


def _tv_targets(
    next_values: Tensor,
    rewards: Tensor,
    batch: Batch,
    config: LossConfig,
    dual: DualNetwork | None,
) -> Tensor:
    outcomes = _outcomes(next_values, rewards, batch, config)
    eta = cast("DualNetwork", dual)(batch.state[:, _TAKEN], batch.actions)
    if config.dual_bounds is not None:
        eta = eta.clamp(*config.dual_bounds)
    worst = worst_tv(outcomes, eta, config.rho, config.v_min)
    if config.robust_over == "transition":
        return worst
    return rewards + config.gamma * worst


def dual_loss(
    dual: DualNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What the dual variable of total variation minimizes.

    Args:
        dual: The dual variable.
        target_network: The target network; the values that targets use.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.

    Returns:
        A scalar, and what to log of it.
    """
    with torch.no_grad():
        next_values = _next_values(target_network, encoded, batch)
        rewards = batch.rewards * config.reward_scale
        outcomes = _outcomes(next_values, rewards, batch, config)
        outcomes = torch.where(batch.mask > 0, outcomes, 0.0)
    eta = dual(batch.state[:, _TAKEN], batch.actions)
    losses = dual_losses(outcomes, eta, config.rho, config.dual_loss)
    loss = masked_mean(losses, batch.mask)
    with torch.no_grad():
        # Near 1 - rho, where the dual variable is the quantile that it should be.
        below = (outcomes <= eta).to(eta)
        stats = {
            "dual_loss": loss.detach(),
            "dual_mean": masked_mean(eta, batch.mask),
            "dual_coverage": masked_mean(below, batch.mask),
        }
    return loss, stats


def td_loss(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    targets: Tensor,
    config: LossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared TD error over real steps (and agents, if they are independent).

    Args:
        network: The online network.
        target_network: The target network, for CW-QMIX's weights.
        encoded: From :func:`encode`.
        batch: The batch.
        targets: ``[B, T, G]``.
        config: Switches.

    Returns:
        The loss, and what to log of it.
    """
    values = _values_taken(network, encoded, batch)  # [B, T, G]
    errors = targets - values
    losses = errors.square()
    stats: dict[str, Tensor] = {}
    if config.td_weighting != "none":
        if config.td_weighting == "cw":
            weights = central_weights(target_network, encoded, batch, targets, config)
        else:
            weights = hysteretic_weights(errors.detach(), config.td_weighting_alpha)
        losses = weights * losses
        stats["td_weight_mean"] = masked_mean(weights, batch.mask)
    loss = masked_mean(losses, batch.mask)
    if not config.stats:
        return loss, stats
    with torch.no_grad():
        stats["td_loss"] = loss.detach()
        stats["td_error_abs"] = masked_mean(errors.abs(), batch.mask)
        stats["q_taken_mean"] = masked_mean(values, batch.mask)
        stats["target_mean"] = masked_mean(targets, batch.mask)
        logits = encoded.online.level_logits
        if logits is not None:
            levels = torch.tensor(network.risk.levels, device=logits.device)
            level = levels[logits.argmax(dim=-1)]  # [B, T, N]
            stats["risk_level_mean"] = masked_mean(level, batch.mask)
    return loss, stats


def _values_taken(network: TeamNetwork, encoded: Pass, batch: Batch) -> Tensor:
    return network.values_of(
        encoded.online,
        batch.actions,
        batch.state[:, _TAKEN],
        batch.action_mask[:, _TAKEN],
    )


@torch.no_grad()
def central_weights(
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    targets: Tensor,
    config: LossConfig,
) -> Tensor:
    """CW-QMIX's weights: 1 for the best joint action and for what may be better.

    Rashid et al., "Weighted QMIX" (NeurIPS 2020), Eq. 9, as released: 1 where every
    agent took its greedy action, or where the target is above what the target critic
    says of the greedy joint action; else ``td_weighting_alpha``.

    Args:
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        targets: ``[B, T, 1]``.
        config: Switches.

    Returns:
        ``[B, T, 1]``.
    """
    greedy = encoded.greedy
    best = target_network.joint_values_of(
        encoded.target, greedy, batch.state[:, _TAKEN]
    )
    took_best = (batch.actions == greedy).all(dim=-1, keepdim=True)
    full = took_best | (targets > best)
    return torch.where(full, 1.0, config.td_weighting_alpha)


def qtran_loss(
    network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    joint: Tensor,
    config: LossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """QTRAN-base's constraints, which tie the mixed value to the joint critic.

    Son et al., "QTRAN" (ICML 2019), Eq. 4a and 4b: with ``V`` added, the mixed value is
    the critic's at the greedy joint action and nowhere below it.

    Args:
        network: The online network.
        encoded: From :func:`encode`.
        batch: The batch.
        joint: The critic's value of the actions taken, without gradient, ``[B, T, 1]``.
        config: Switches.

    Returns:
        The loss, and what to log of it.
    """
    online, state = encoded.online, batch.state[:, _TAKEN]
    greedy, action_mask = encoded.greedy, batch.action_mask[:, _TAKEN]
    offset = cast("QtranCritic", network.joint_critic).state_value(state)
    with torch.no_grad():
        joint_greedy = network.joint_values_of(online, greedy, state)
    best = network.values_of(online, greedy, state, action_mask)
    taken = _values_taken(network, encoded, batch)
    opt_loss = masked_mean((best - joint_greedy + offset).square(), batch.mask)
    slack = taken - joint + offset
    nopt_loss = masked_mean(slack.clamp(max=0.0).square(), batch.mask)
    loss = config.opt_weight * opt_loss + config.nopt_weight * nopt_loss
    with torch.no_grad():
        stats = {
            "td_loss": loss.detach(),
            "opt_loss": opt_loss.detach(),
            "nopt_loss": nopt_loss.detach(),
            "q_taken_mean": masked_mean(taken, batch.mask),
        }
    return loss, stats


def conservative_loss(
    network: TeamNetwork, encoded: Pass, batch: Batch, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The conservative penalty of all agents.

    Per agent and never over joint actions, as MA-CQR decomposes it (Eldeeb et al.,
    2024): the sum over the agents of a team with one value, the mean over independent
    agents, as their losses are.

    Args:
        network: The online network.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.

    Returns:
        The penalty, and what to log of it.
    """
    atoms = network.atoms(encoded.online)  # [B, T, N, A, M]
    values = atoms if config.conservative_on == "quantiles" else atoms.mean(dim=-1)
    mask = batch.action_mask[:, _TAKEN]
    penalties = conservative_penalty(values, batch.actions, mask)  # [B, T, N]
    if network.count_values() == 1:
        penalties = penalties.sum(dim=-1, keepdim=True)
    penalty = masked_mean(penalties, batch.mask)
    if not config.stats:
        return penalty, {}
    with torch.no_grad():
        means = atoms.mean(dim=-1)
        best = mask_utilities(means, mask).amax(dim=-1)
        data = means.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        stats = {
            "conservative_penalty": penalty.detach(),
            "q_max_mean": masked_mean(best, batch.mask),
            "q_data_mean": masked_mean(data, batch.mask),
            "ood_gap": masked_mean(best - data, batch.mask),
            "data_agreement": masked_mean((data >= best).float(), batch.mask),
        }
    return penalty, stats


def distributional_loss(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Quantile regression on the team's reward, of independent agents or their sum.

    ``T_j = r + gamma (1 - terminated) Z^-_i(tau', a*_i; tau'_j)``: QR-DQN (Dabney et
    al., 2018a) for fixed fractions, IQN (2018b) for sampled ones, LH-IQN (Lyu and
    Amato, 2020) with the weights of hysteresis and likelihood. With the mixer ``vdn``
    atoms of the same fraction are added up over agents, in predictions and targets: the
    centralised form of MA-CQR (Eldeeb et al., 2024).

    Args:
        network: The online network.
        target_network: The target network.
        encoded: From :func:`encode`.
        batch: The batch.
        config: Switches.

    Returns:
        The loss, and what to log of it.
    """
    online = encoded.online
    atoms = network.team_atoms_of(
        online, batch.actions, batch.state[:, _TAKEN], batch.action_mask[:, _TAKEN]
    )  # [B, T, G, M]
    with torch.no_grad():
        next_atoms = target_network.team_atoms_of(
            encoded.following,
            encoded.greedy_following,
            batch.state[:, _FOLLOWING],
            batch.action_mask[:, _FOLLOWING],
        )
        discount = config.gamma * (1.0 - batch.terminateds)  # [B, T, 1]
        rewards = batch.rewards * config.reward_scale
        targets = rewards.unsqueeze(-1) + discount.unsqueeze(-1) * next_atoms
        targets = torch.where(batch.mask.unsqueeze(-1) > 0, targets, 0.0)
    fractions = _fractions(online, atoms, config)
    few = atoms.shape[-1] <= _FEW_ATOMS
    regress = pairwise_quantile_huber_loss if few else quantile_huber_loss
    losses = regress(atoms, targets, fractions, config.qr_kappa)
    errors = targets.mean(dim=-1) - atoms.detach().mean(dim=-1)  # [B, T, G]
    stats: dict[str, Tensor] = {}
    if config.td_weighting != "none":
        likelihood = None
        if config.td_weighting == "likelihood":
            half_width = 0.5 / atoms.shape[-1]
            likelihood = td_likelihood(atoms.detach(), fractions, targets, half_width)
            stats["td_likelihood_mean"] = masked_mean(likelihood, batch.mask)
        weights = hysteretic_weights(errors, config.td_weighting_alpha, likelihood)
        losses = weights * losses
        stats["td_weight_mean"] = masked_mean(weights, batch.mask)
    loss = masked_mean(losses, batch.mask)
    if not config.stats:
        return loss, stats
    with torch.no_grad():
        stats["td_loss"] = loss.detach()
        stats["td_error_abs"] = masked_mean(errors.abs(), batch.mask)
        stats["q_taken_mean"] = masked_mean(atoms.mean(dim=-1), batch.mask)
        stats["target_mean"] = masked_mean(targets.mean(dim=-1), batch.mask)
        lowest = atoms.sort(dim=-1).values[..., : math.ceil(atoms.shape[-1] / 10)]
        stats["cvar_estimate"] = masked_mean(lowest.mean(dim=-1), batch.mask)
        spread = atoms.amax(dim=-1) - atoms.amin(dim=-1)
        # At 0 there is no distribution: all atoms are the same number.
        stats["head_spread"] = masked_mean(spread, batch.mask)
    return loss, stats


def _fractions(unroll: Unroll, atoms: Tensor, config: LossConfig) -> Tensor:
    """Fractions of the atoms: sampled ``[B, T, N, M]``, or fixed ``[M]``."""
    if unroll.fractions is not None:
        return unroll.fractions
    fractions = quantile_fractions(atoms.shape[-1], config.qr_fractions)
    return config.tail_level * fractions.to(atoms)


@torch.no_grad()
def quantile_targets(
    network: TeamNetwork,
    target_network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    config: LossConfig,
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
    target, greedy = encoded.following, encoded.greedy_following
    next_atoms = target_network.atoms_of(target, greedy)
    dummy = network.utilities_of(encoded.online, batch.actions)  # [B, T, N]
    discount = config.gamma * (1.0 - batch.terminateds)  # [B, T, 1]
    if config.qr_target == "implied_reward":
        # The reward for which CVaR of the target is CVaR now: then TD and QR agree.
        dummy = dummy - discount * target_network.utilities_of(target, greedy)
    targets = dummy.unsqueeze(-1) + discount.unsqueeze(-1) * next_atoms
    return torch.where(batch.mask.unsqueeze(-1) > 0, targets, 0.0)


def quantile_loss(
    network: TeamNetwork,
    encoded: Pass,
    batch: Batch,
    targets: Tensor,
    config: LossConfig,
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
    online = encoded.online
    atoms = network.atoms_of(online, batch.actions)
    fractions = _fractions(online, atoms, config)
    if config.qr_loss == "official":
        losses = pairwise_quantile_huber_loss(
            atoms, targets, fractions, config.qr_kappa, official=True
        )
    else:
        losses = quantile_huber_loss(atoms, targets, fractions, config.qr_kappa)
    return masked_mean(losses, batch.mask)
