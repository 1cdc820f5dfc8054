"""The counterfactual conservative penalty (CFCQL), one agent's deviation at a time.

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
    """CFCQL's penalty (Shao et al., 2023): ``sum_i w_i`` of single-agent deviations.

    Agent ``i`` takes another action while the others take the actions in the data.
    Agents further from the behaviour policy have larger weights. That policy is learned
    together with the values by behaviour cloning, with networks like the agents'. In
    the released code it is learned before the values.
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
        divergence_temperature: float | None = option(
            5.0,
            "Temperature of the agents' weights (CFCQL's softmax of divergences): a"
            " higher value gives more weight to agents further from the behaviour"
            " policy. null: equal weights, and no behaviour policy is learned.",
            low=0.0,
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from super().refusals(config)
        yield from refuse_without_values(config)
        target = VALUE_PARTS.part("target", config)
        if issubclass(target, DualTarget) and config.divergence_temperature is not None:
            yield (
                f"target: {config.target!r} trains a dual variable, and penalty"
                f" {config.penalty!r} trains a behaviour policy, but only one of them"
                " is possible. Set divergence_temperature: null, or another target."
            )

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """Creates the behaviour policy: a copy of the agents with utilities as logits.

        It starts from the agents' parameters.
        """
        if self.options.divergence_temperature is None:
            return None
        model = copy.deepcopy(network).requires_grad_(True)
        model.mixer, model.joint_critic = NoMixer(), None
        return model

    def dual_loss(self, view: View) -> Tensor:
        """Computes the negative log-likelihood of the actions in the data."""
        logits = self._logits(view)
        losses = conservative_penalty(logits, view.actions, view.action_mask)
        loss = view.mean(losses)
        view.log("behaviour_loss", loss)
        return loss

    def _logits(self, view: View) -> Tensor:
        """Logits of the behaviour policy, ``[B, T, N, A]``."""
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
    """Lists the joint actions in which at most one agent deviates.

    Args:
        joint: Joint actions, int64 ``[B, T, N]``.
        num_actions: ``A``.

    Returns:
        Joint actions, int64 ``[B, T, N * A, N]``, ordered by agent, then by action.
    """
    agents = joint.shape[-1]
    actions = torch.arange(num_actions, device=joint.device)
    own = torch.eye(agents, dtype=torch.bool, device=joint.device)
    joints = torch.where(
        own[:, None, :], actions[None, :, None], joint[:, :, None, None, :]
    )  # [B, T, N, A, N]
    return joints.flatten(2, 3)
