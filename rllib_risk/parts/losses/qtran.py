"""QTRAN-base's loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.qtran import nonoptimality_losses, optimality_losses
from rllib_risk.parts.critics.qtran import QtranCritic
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import Even


class QtranLoss(Loss):
    """QTRAN-base's constraint losses, which tie the mixed value to the joint critic.

    Son et al., "QTRAN" (ICML 2019), Eq. 4a and 4b; see :mod:`rllib_risk.ops.qtran`.
    """

    @dataclass(frozen=True)
    class Options:
        opt_weight: float = option(1.0, "Weight of QTRAN's L_opt.", low=0.0)
        nopt_weight: float = option(0.1, "Weight of QTRAN's L_nopt.", low=0.0)

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if not issubclass(VALUE_PARTS.part("joint_critic", config), QtranCritic):
            yield (
                f"loss: {config.loss!r} uses the state value of the QTRAN critic. Set"
                " joint_critic: qtran."
            )
        if not issubclass(VALUE_PARTS.part("td_weighting", config), Even):
            yield (
                "td_weighting: weights TD errors of the mixed value, and loss"
                f" {config.loss!r} has none. Set td_weighting: none."
            )

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        joint = view.joint_values.detach()
        offset = cast("QtranCritic", view.network.joint_critic).state_value(view.state)
        with torch.no_grad():
            joint_greedy = view.network.joint_values_of(
                view.online, view.greedy, view.state
            )
        best = view.values_of(view.greedy)
        taken = view.values
        opt_loss = view.mean(optimality_losses(best, joint_greedy, offset))
        nopt_loss = view.mean(nonoptimality_losses(taken, joint, offset))
        o = self.options
        loss = o.opt_weight * opt_loss + o.nopt_weight * nopt_loss
        if view.wants_stats:
            with torch.no_grad():
                view.log("td_loss", loss)
                view.log("opt_loss", opt_loss)
                view.log("nopt_loss", nopt_loss)
        return loss

    def log_errors(self, view: View) -> None:
        """See :meth:`Loss.log_errors`. The mixed value has no TD error in QTRAN."""
        view.log("q_taken_mean", view.mean(view.values))
