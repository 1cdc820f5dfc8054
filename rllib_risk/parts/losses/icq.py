"""Implicit constraint Q-learning: behaviour cloning weighted by advantages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.conservative import conservative_penalty
from rllib_risk.ops.counterfactual import counterfactual_advantages
from rllib_risk.ops.implicit import batch_weights
from rllib_risk.parts.critics.icq import IcqCritic
from rllib_risk.parts.losses.base import Loss, errors_are_plain
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View


class ImplicitConstraint(Loss):
    """The policy loss of MAICQ (Yang et al., 2021, "Believe What You See").

    ``-mean k_i(s) w_i log pi_i(u_i)`` is the weighted negative log-likelihood of the
    dataset's actions under the softmax of the utilities. ``k_i`` is the critic's weight
    of the agent. ``w_i`` is higher for high advantages ``A_i = Q_i(u_i) - sum_a pi_i(a)
    Q_i(a)`` in the batch (:func:`~rllib_risk.ops.implicit.batch_weights`). The critic's
    squared TD error is added. The weights have no gradient.
    """

    @dataclass(frozen=True)
    class Options:
        icq_policy_temperature: float = option(
            0.1,
            "Temperature of the weights of advantages in a batch (beta of MAICQ's"
            " actor), in units of scaled rewards. A lower temperature prefers actions"
            " of high advantage more.",
            low=0.0,
            low_open=True,
        )

    options: Options
    mixes: ClassVar[bool] = False
    splits: ClassVar[bool] = False  # each episode's weight depends on the others

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.dataset is None:
            yield (
                f"loss: {config.loss!r} weights the actions of a dataset. Set dataset."
            )
        if VALUE_PARTS.part("mixer", config).form != "none" or config.num_atoms > 1:
            yield (
                f"loss: {config.loss!r} learns a policy: the utilities are logits, and"
                " the critic has the values. Set mixer: none and num_atoms: 1."
            )
        if not issubclass(VALUE_PARTS.part("joint_critic", config), IcqCritic):
            yield (
                f"joint_critic: loss {config.loss!r} needs critic 'icq'. Set"
                " joint_critic: icq."
            )
        if config.conservative_weight is not None:
            yield (
                f"conservative_weight: loss {config.loss!r} only uses values of actions"
                " in the data, so it needs no penalty. Leave conservative_weight out."
            )
        if not errors_are_plain(config):
            yield (
                f"target, td_weighting: loss {config.loss!r} uses the plain target and"
                " its own weights. Leave them out."
            )

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        critic = cast("Any", view.network.joint_critic)
        with torch.no_grad():
            values = critic.of_all_actions(view.online.joint, view.state)
            policy = view.network.action_probabilities(view.online, view.action_mask)
            advantages = counterfactual_advantages(values, policy, view.actions)
            weights = batch_weights(
                advantages,
                view.mask.expand_as(advantages),
                self.options.icq_policy_temperature,
            )
            weights = critic.values.weights(view.state) * weights  # [B, T, N]
        logits = view.network.atoms(view.online).squeeze(-1)
        losses = conservative_penalty(logits, view.actions, view.action_mask)
        loss = view.mean(weights * losses)
        if view.wants_stats:
            view.log("policy_loss", loss)
            view.log("advantage_mean", view.mean(advantages))
        return loss

    @torch.no_grad()
    def log_errors(self, view: View) -> None:
        """Logs the errors of the critic; see :meth:`Loss.log_errors`."""
        errors = view.targets - view.joint_values
        view.log("td_error_abs", view.mean(errors.abs()))
        view.log("q_taken_mean", view.mean(view.joint_values))
        view.log("target_mean", view.mean(view.targets))
