"""The critic of implicit constraint Q-learning (ICQ).

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``I`` input size,
``H`` number of features, ``S`` state size, ``D`` observation size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.critics import DecomposedCritic
from rllib_risk.networks.encoder import Encoder
from rllib_risk.ops.implicit import batch_weights
from rllib_risk.parts.critics.base import JointCritic
from rllib_risk.parts.slots import VALUE_PARTS

if TYPE_CHECKING:
    from rllib_risk.parts.team import TeamNetwork
    from rllib_risk.parts.view import View


class IcqCritic(JointCritic):
    """MAICQ's critic (Yang et al., 2021), evaluated only at actions in the data.

    ``Q_tot(s, u) = sum_i k_i(s) Q_i(s, o_i, u_i)``, ``k_i >= 0``, ``sum_i k_i = 1``.
    All agents share one network. The next value of a step is ``w Q_tot(s', u')`` with
    the next action ``u'`` in the data. The weight ``w`` is higher for high values in
    the batch (:func:`~rllib_risk.ops.implicit.batch_weights`). The last step of a row
    has no next action. If the episode did not terminate there, the next value is the
    expectation under the policy.
    """

    needs_state = True

    # Width of the critic's layers, as in the released code.
    WIDTH = 256

    @dataclass(frozen=True)
    class Options:
        icq_value_temperature: float = option(
            1000.0,
            "Temperature of the weights of next values in a batch (beta of MAICQ's"
            " critic), in units of scaled rewards. A lower temperature prefers high"
            " values more.",
            low=0.0,
            low_open=True,
        )

    options: Options

    def __init__(
        self,
        sizes: TeamSizes,
        feature_size: int,
        make_encoder: Callable[[], Encoder],
        options: Any = None,
    ) -> None:
        """Initializes the critic; see :class:`JointCritic`."""
        super().__init__(sizes, feature_size, make_encoder, options)
        self.values = DecomposedCritic(sizes, self.WIDTH, bias=False)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        loss = VALUE_PARTS.part("loss", config)
        # Its next values are of a policy, whose logits are the utilities.
        if loss.mixes or not loss.uses_targets:
            yield (
                f"joint_critic: {config.joint_critic!r} trains the policy of loss"
                " 'icq'. Set loss: icq, or another joint_critic."
            )
        if config.sequence_length == 1:
            yield (
                f"sequence_length: joint_critic {config.joint_critic!r} learns from the"
                " next action in the data, which a sequence of one step does not have."
                " Set 2 or more, or null for whole episodes."
            )

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the agents' observations, ``[B, T, N, D]``."""
        return inputs[..., : self.values.sizes.obs_size]

    def of_all_actions(self, encoded: Tensor, state: Tensor) -> Tensor:
        """Computes the values of every action of each agent.

        Args:
            encoded: Result of :meth:`encode`, ``[B, T, N, D]``.
            state: Global states, ``[B, T, S]``.

        Returns:
            Action values ``[B, T, N, A]``.
        """
        no_actions = torch.empty(0, device=state.device)  # they are not an input
        return self.values(self.values.inputs(encoded, state, no_actions))

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``."""
        values = self.of_all_actions(encoded, state)
        taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return self.values.mix(taken, state)

    def next_values(self, view: View) -> Tensor:
        """See :meth:`JointCritic.next_values`."""
        network: TeamNetwork = view.target_network
        following, state = view.encoded.following, view.next_state
        encoded = cast("Tensor", following.joint)
        values = self.of_all_actions(encoded, state)
        last = torch.zeros_like(view.mask[:, :1])
        followed = torch.cat([view.mask[:, 1:], last], dim=1)  # [B, T, 1]
        actions = torch.cat([view.actions[:, 1:], view.actions[:, :1]], dim=1)
        taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        joint = self.values.mix(taken, state)
        weights = batch_weights(joint, followed, self.options.icq_value_temperature)
        policy = network.action_probabilities(following, view.next_action_mask)
        expected = self.values.mix((policy * values).sum(dim=-1), state)
        return torch.where(followed > 0, weights * joint, expected)
