"""The joint critic of weighted QMIX.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``I`` input size,
``H`` number of features, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.layers import mlp
from rllib_risk.parts.critics.base import JointCritic


class WqmixCritic(JointCritic):
    """Unrestricted critic ``Qhat*`` of weighted QMIX (Rashid et al., 2020).

    A separate central agent network gives one number per action. The numbers of the
    actions taken and the state pass through a feed-forward network, and ``V(s)`` is
    added. All agents share one central network, even if they do not share acting
    networks. It distinguishes agents by the ids in their inputs, if there are any.
    """

    needs_state = True

    # Width of the networks that read the state.
    WIDTH = 256

    def __init__(
        self,
        sizes: TeamSizes,
        feature_size: int,
        make_encoder: Callable[[], Encoder],
        options: Any = None,
    ) -> None:
        """Initializes the critic; see :class:`JointCritic`."""
        super().__init__(sizes, feature_size, make_encoder, options)
        self.encoder = make_encoder()
        self.head = nn.Linear(self.encoder.feature_size, sizes.num_actions)
        size = sizes.state_size + sizes.num_agents
        self.joint = mlp(size, self.WIDTH, self.WIDTH, self.WIDTH, 1)
        self.value = mlp(sizes.state_size, self.WIDTH, 1)

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the features of the central agent network; ignores ``features``."""
        rows = inputs.transpose(1, 2).flatten(0, 1)  # [B * N, T, I]
        central = self.encoder(rows, None)[0]
        size = (inputs.shape[0], inputs.shape[2])
        return central.unflatten(0, size).transpose(1, 2)  # [B, T, N, H]

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Qhat*``, ``[B, T, 1]``."""
        values = self.head(self.encoder.readout(encoded))  # [B, T, N, A]
        taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # [B, T, N]
        return self.joint(torch.cat([state, taken], dim=-1)) + self.value(state)
