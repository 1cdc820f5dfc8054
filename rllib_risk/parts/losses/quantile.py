"""Quantile regression on the team's reward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.quantile import pairwise_quantile_huber_loss, quantile_huber_loss
from rllib_risk.parts.fractions import FractionOptions, fractions_of
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View

# Up to this number of atoms the pairwise loss is faster than the sorted one.
_FEW_ATOMS = 8


@dataclass(frozen=True)
class HuberOptions:
    """The threshold of quantile-Huber losses."""

    qr_kappa: float = option(
        1.0, "Huber threshold, in units of return.", low=0.0, low_open=True
    )


class QuantileLoss(Loss):
    """Quantile regression of independent agents' returns, or of their sum.

    ``T_j = r + gamma (1 - terminated) Z^-_i(tau', a*_i; tau'_j)``: QR-DQN (Dabney et
    al., 2018a) for fixed fractions, IQN (2018b) for sampled ones, LH-IQN (Lyu and
    Amato, 2020) with the weights of hysteresis and likelihood. With the mixer ``vdn``
    atoms of the same fraction are added up over agents, in predictions and targets: the
    centralised form of MA-CQR (Eldeeb et al., 2024).
    """

    @dataclass(frozen=True)
    class Options(HuberOptions, FractionOptions):
        pass

    options: Options
    fits_atoms: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        sampled = config.quantiles == "sampled"
        if config.joint_critic != "none":
            yield (
                f"joint_critic: {config.joint_critic!r} is a number that teaches"
                f" numbers, and loss {config.loss!r} fits distributions; set"
                " joint_critic: none, or loss: td."
            )
        if config.num_atoms == 1:
            yield f"num_atoms: must be above 1 for loss: {config.loss}."
        if not VALUE_PARTS.slots["mixer"].part(config.mixer).mixes_atoms:
            yield (
                f"loss: {config.loss!r} fits the distribution of the team's reward, and"
                f" mixer {config.mixer!r} mixes numbers; set mixer: none or vdn, or one"
                " of your own with mix_atoms()."
            )
        if sampled and config.mixer != "none":
            yield (
                "quantiles: 'sampled' draws fractions for each agent, and the atoms of"
                " a sum belong to the same ones; set quantiles: fixed, or mixer: none."
            )
        if config.td_lambda != 0.0:
            yield (
                f"td_lambda: lambda-returns are numbers; loss {config.loss!r} needs"
                " td_lambda: 0."
            )
        if config.risk_mode == "dynamic" and config.risk_grad != "frozen":
            yield (
                "risk_mode: the level predictor learns from the TD error, and loss"
                f" {config.loss!r} has none; set risk_mode: static, or risk_grad:"
                " frozen."
            )
        if sampled and config.qr_fractions != "midpoint":
            yield (
                "quantiles: 'sampled' draws the fractions; leave qr_fractions:"
                " midpoint."
            )
        if config.tail_level != 1.0 and sampled:
            yield "tail_level: is about fixed atoms; set quantiles: fixed."
        if config.tail_level != 1.0 and config.risk_measure != "mean":
            yield (
                "tail_level: the mean of a tail's atoms is its CVaR already; set"
                " risk_measure: mean."
            )

    def terms(self, view: View) -> int:
        """See :meth:`Loss.terms`: one for each atom."""
        return view.atoms.shape[-1]

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        o, atoms, targets = self.options, view.atoms, view.target_atoms
        fractions = fractions_of(view, atoms, o.qr_fractions, o.tail_level)
        few = atoms.shape[-1] <= _FEW_ATOMS
        regress = pairwise_quantile_huber_loss if few else quantile_huber_loss
        losses = regress(atoms, targets, fractions, o.qr_kappa)
        errors = targets.mean(dim=-1) - atoms.detach().mean(dim=-1)  # [B, T, G]
        loss = view.mean(view.weigh(losses, errors))
        if view.wants_stats:
            with torch.no_grad():
                view.log("td_loss", loss)
                lowest = atoms.sort(dim=-1).values
                lowest = lowest[..., : math.ceil(atoms.shape[-1] / 10)]
                view.log("cvar_estimate", view.mean(lowest.mean(dim=-1)))
                # At 0 there is no distribution: all atoms are the same number.
                spread = atoms.amax(dim=-1) - atoms.amin(dim=-1)
                view.log("head_spread", view.mean(spread))
        return loss
