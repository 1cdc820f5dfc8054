"""Squared TD errors of mixed values and of a joint critic."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.view import View


class TDLoss(Loss):
    """Mean squared TD error over real steps (and agents, if they are independent)."""

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        errors = view.errors
        loss = view.mean(view.weigh(errors.square(), errors.detach()))
        if view.wants_stats:
            with torch.no_grad():
                view.log("td_loss", loss)
                logits = view.online.level_logits
                if logits is not None:
                    levels = torch.tensor(
                        view.network.risk.levels, device=logits.device
                    )
                    level = levels[logits.argmax(dim=-1)]  # [B, T, N]
                    view.log("risk_level_mean", view.mean(level))
        return loss


def critic_loss(view: View) -> Tensor:
    """Mean squared TD error of the joint critic, which must exist.

    Args:
        view: The batch.

    Returns:
        A scalar.
    """
    loss = view.mean((view.joint_values - view.targets).square())
    if view.wants_stats:
        with torch.no_grad():
            view.log("critic_loss", loss)
            view.log("critic_taken_mean", view.mean(view.joint_values))
    return loss
