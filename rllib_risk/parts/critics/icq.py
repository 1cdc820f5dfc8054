"""The critic of implicit constraint Q-learning.

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

if TYPE_CHECKING:
    from rllib_risk.parts.team import TeamNetwork
    from rllib_risk.parts.view import View


class IcqCritic(JointCritic):
    """MAICQ's critic (Yang et al., 2021): it is asked of actions in the data alone.

    ``Q_tot(s, u) = sum_i k_i(s) Q_i(s, o_i, u_i)``, ``k_i >= 0``, ``sum_i k_i = 1``, a
    network for all agents. What follows a step is worth ``w Q_tot(s', u')`` of the next
    action ``u'`` in the data, with the batch's weight ``w`` of high values
    (:func:`~rllib_risk.ops.implicit.batch_weights`). A row's last step has no next
    action: if the episode did not end there, the policy's expectation stands instead.
    """

    needs_state = True

    # Of the critic's layers, as in the released code.
    WIDTH = 256

    @dataclass(frozen=True)
    class Options:
        icq_value_temperature: float = option(
            1000.0,
            "How little targets prefer high values among a batch (beta of MAICQ's"
            " critic), in units of scaled rewards.",
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
        """See Part."""
        if config.loss != "icq":
            yield (
                "joint_critic: 'icq' teaches the policy of loss 'icq'; set loss: icq,"
                " or another joint_critic."
            )
        if config.sequence_length == 1:
            yield (
                "sequence_length: joint_critic 'icq' learns from the next action in the"
                " data, which a single step does not have; set 2 or more, or null for"
                " whole episodes."
            )

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the agents' observations, ``[B, T, N, D]``."""
        return inputs[..., : self.values.sizes.obs_size]

    def of_all_actions(self, encoded: Tensor, state: Tensor) -> Tensor:
        """Values of every action of each agent.

        Args:
            encoded: From :meth:`encode`, ``[B, T, N, D]``.
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, N, A]``.
        """
        none = torch.empty(0, device=state.device)  # actions are no input
        return self.values(self.values.inputs(encoded, state, none))

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``."""
        values = self.of_all_actions(encoded, state)
        taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return self.values.mix(taken, state)

    def next_values(self, view: View) -> Tensor:
        """See :meth:`JointCritic.next_values`; ``[B, T, 1]``."""
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
