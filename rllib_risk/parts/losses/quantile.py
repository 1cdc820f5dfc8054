"""Quantile regression on the team's reward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.quantile import (
    LossForm,
    pairwise_quantile_huber_loss,
    quantile_huber_loss,
)
from rllib_risk.parts.critics.base import NoCritic
from rllib_risk.parts.fractions import FractionOptions, fractions_of
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View

# Up to this number of atoms, the pairwise loss is faster than the sorted one.
_FEW_ATOMS = 8


@dataclass(frozen=True)
class HuberOptions:
    """Keys of quantile-Huber losses."""

    qr_kappa: float = option(
        1.0, "Huber threshold, in units of return.", low=0.0, low_open=True
    )
    qr_loss: Literal["qrdqn", "rmix_released", "riskq_released", "official"] = option(
        "qrdqn",
        "Form of the quantile loss: QR-DQN's, or that of RMIX's or RiskQ's released"
        " code, which collapses all atoms to one value. official: older name of"
        " rmix_released.",
    )


def regress(
    atoms: Tensor, targets: Tensor, fractions: Tensor, options: HuberOptions
) -> Tensor:
    """Computes the quantile-Huber loss that the options choose.

    Args:
        atoms: Predicted atoms, ``[..., M]``.
        targets: Target atoms, ``[..., M]``.
        fractions: Fractions of the predicted atoms, ``[M]`` or ``[..., M]``.
        options: Form and Huber threshold.

    Returns:
        Losses ``[...]``.
    """
    form: LossForm
    form = "rmix_released" if options.qr_loss == "official" else options.qr_loss
    if form == "qrdqn":
        return quantile_huber_loss(atoms, targets, fractions, options.qr_kappa)
    return pairwise_quantile_huber_loss(
        atoms, targets, fractions, options.qr_kappa, form=form
    )


def refuse_other_fractions(config: Any) -> Iterator[str]:
    """Yields an error if sampled quantiles have keys of fixed fractions.

    Args:
        config: The configuration.

    Yields:
        The message.
    """
    forms = config.qr_loss, config.qr_fractions
    sampled = VALUE_PARTS.part("quantiles", config).samples
    if sampled and forms != ("qrdqn", "midpoint"):
        yield (
            f"quantiles: {config.quantiles!r} draws its own fractions. Leave qr_loss:"
            " qrdqn and qr_fractions: midpoint."
        )


class QuantileLoss(Loss):
    """Quantile regression of the returns of a team or of independent agents.

    It regresses ``Z(s, a; tau_m)`` on ``T_j = r + gamma (1 - terminated) Z^-(s', a*;
    tau'_j)``. The mixer computes ``Z`` from the agents' atoms of the same fraction:
    DDN, DMIX and DPLEX (Sun, Lee and Lee, 2021), RiskQ (Shen et al., 2023), and the
    centralised form of MA-CQR (Eldeeb et al., 2024). Without a mixer each agent has its
    own ``Z``: QR-DQN (Dabney et al., 2018a) for fixed fractions, IQN (2018b) for
    sampled fractions, and LH-IQN (Lyu and Amato, 2020) with hysteretic and likelihood
    weights.
    """

    @dataclass(frozen=True)
    class Options(HuberOptions, FractionOptions):
        pass

    options: Options
    fits_atoms: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        head = VALUE_PARTS.part("quantiles", config)
        level = VALUE_PARTS.part("risk_mode", config)
        shared = head.shares_fractions or config.shared_fractions
        if not issubclass(VALUE_PARTS.part("joint_critic", config), NoCritic):
            yield (
                f"joint_critic: {config.joint_critic!r} gives scalar values, but loss"
                f" {config.loss!r} fits distributions. Set joint_critic: none, or loss:"
                " td."
            )
        if config.num_atoms == 1 and not head.samples:
            yield f"num_atoms: must be above 1 for loss: {config.loss}."
        mixed = VALUE_PARTS.part("mixer", config).form != "none"
        if head.samples and mixed and not shared:
            yield (
                f"quantiles: {config.quantiles!r} draws fractions for each agent, but a"
                " mixer combines atoms of the same fraction. Set shared_fractions:"
                " true, or quantiles: fixed, or mixer: none."
            )
        if config.td_lambda != 0.0 and head.samples:
            yield (
                "td_lambda: lambda-returns of a distribution are computed per quantile"
                " and need the same fractions at all steps. Set quantiles: fixed, or"
                " td_lambda: 0."
            )
        trained = level.has_key("risk_grad") and config.risk_grad != "frozen"
        if level.predicted and (trained or level.straight_through):
            yield (
                "risk_mode: the level predictor learns from the TD error, and loss"
                f" {config.loss!r} has none. Set risk_mode: static, or risk_grad:"
                " frozen."
            )
        yield from refuse_other_fractions(config)
        if config.tail_level != 1.0 and head.samples:
            yield "tail_level: applies to fixed atoms only. Set quantiles: fixed."
        measure = VALUE_PARTS.part("risk_measure", config)
        if config.tail_level != 1.0 and measure.form != "mean":
            yield (
                "tail_level: the mean of the tail's atoms is already CVaR. Set"
                " risk_measure: mean."
            )

    def terms(self, view: View) -> int:
        """See :meth:`Loss.terms`: one error per atom."""
        return view.atoms.shape[-1]

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        o, atoms, targets = self.options, view.atoms, view.target_atoms
        fractions = fractions_of(view, atoms, o.qr_fractions, o.tail_level)
        if atoms.shape[-1] <= _FEW_ATOMS and o.qr_loss == "qrdqn":
            losses = pairwise_quantile_huber_loss(atoms, targets, fractions, o.qr_kappa)
        else:
            losses = regress(atoms, targets, fractions, o)
        errors = targets.mean(dim=-1) - atoms.detach().mean(dim=-1)  # [B, T, G]
        loss = view.mean(view.weigh(losses, errors))
        if view.wants_stats:
            with torch.no_grad():
                view.log("td_loss", loss)
                lowest = atoms.sort(dim=-1).values
                lowest = lowest[..., : math.ceil(atoms.shape[-1] / 10)]
                view.log("cvar_estimate", view.mean(lowest.mean(dim=-1)))
                # 0 means that the distribution has collapsed to one value.
                spread = atoms.amax(dim=-1) - atoms.amin(dim=-1)
                view.log("head_spread", view.mean(spread))
        return loss
