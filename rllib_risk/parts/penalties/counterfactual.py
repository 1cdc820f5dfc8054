"""The counterfactual conservative penalty: one agent at a time departs from the data.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.ops.conservative import (
    conservative_penalty,
    counterfactual_penalty,
    divergence_weights,
)
from rllib_risk.parts.mixers.additive import NoMixer
from rllib_risk.parts.penalties.base import Penalty, refuse_without_values
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import DualTarget
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View


class Counterfactual(Penalty):
    """CFCQL's penalty (Shao et al., 2023): ``sum_i w_i`` of each agent's own departure.

    Agent ``i`` does something else while the others do what the data say. Agents that
    depart further from the data's policy weigh more. That policy is learned beside the
    values by behaviour cloning, with agents like the acting ones; in the released code
    it is learned first.
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
        divergence_temperature: float | None = option(
            5.0,
            "How much more agents weigh that depart further from the data (CFCQL's"
            " softmax of divergences). null: all weigh the same, and no model of the"
            " data's policy is learned.",
            low=0.0,
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_without_values(config, "counterfactual")
        target = VALUE_PARTS.slots["target"].part(config.target)
        if issubclass(target, DualTarget) and config.divergence_temperature is not None:
            yield (
                f"target: {config.target!r} learns a dual variable beside the networks,"
                " and penalty 'counterfactual' a model of the data's policy; set"
                " divergence_temperature: null, or another target."
            )

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """A copy of the agents, whose utilities are to be logits of the data's actions.

        It begins with their parameters.
        """
        if self.options.divergence_temperature is None:
            return None
        model = copy.deepcopy(network).requires_grad_(True)
        model.mixer, model.joint_critic = NoMixer(), None
        return model

    def dual_loss(self, view: View) -> Tensor:
        """Minus the log-likelihood of the data's actions; see :meth:`Penalty`."""
        logits = self._logits(view)
        losses = conservative_penalty(logits, view.actions, view.action_mask)
        loss = view.mean(losses)
        view.log("behaviour_loss", loss)
        return loss

    def _logits(self, view: View) -> Tensor:
        """Of the data's policy, ``[B, T, N, A]``."""
        model, batch = cast("TeamNetwork", view.dual), view.batch
        inputs = model.inputs(batch.obs, batch.actions, batch.previous)
        return model.atoms(model.unroll(inputs[:, :-1])).mean(dim=-1)

    def penalties(self, view: View) -> Tensor:
        """See :meth:`Penalty.penalties`; ``[B, T, 1]``."""
        legal = view.action_mask
        agents, actions = legal.shape[2:]
        values = view.values_of_each(one_departs(view.actions, actions))
        values = values.squeeze(-1).unflatten(-1, (agents, actions))  # [B, T, N, A]
        index = view.actions[:, :, :1, None]
        taken = values[:, :, :1].gather(-1, index)[..., 0, 0]  # [B, T]
        weights = self._weights(view, values.detach(), legal)
        return counterfactual_penalty(values, taken, legal, weights).unsqueeze(-1)

    @torch.no_grad()
    def _weights(self, view: View, values: Tensor, legal: Tensor) -> Tensor:
        temperature = self.options.divergence_temperature
        if temperature is None or view.dual is None:
            return torch.full_like(values[..., 0], 1.0 / values.shape[2])
        logits = torch.where(legal > 0, self._logits(view), -torch.inf)
        weights = divergence_weights(values, logits.softmax(dim=-1), legal, temperature)
        if view.wants_stats:
            view.log("agent_weight_max", view.mean(weights.amax(-1, keepdim=True)))
        return weights


def one_departs(joint: Tensor, num_actions: int) -> Tensor:
    """All joint actions in which one agent may do something else.

    Args:
        joint: int64 ``[B, T, N]``.
        num_actions: ``A``.

    Returns:
        int64 ``[B, T, N * A, N]``: agent by agent, action by action.
    """
    agents = joint.shape[-1]
    actions = torch.arange(num_actions, device=joint.device)
    own = torch.eye(agents, dtype=torch.bool, device=joint.device)
    joints = torch.where(
        own[:, None, :], actions[None, :, None], joint[:, :, None, None, :]
    )  # [B, T, N, A, N]
    return joints.flatten(2, 3)
