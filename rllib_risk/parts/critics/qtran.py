"""QTRAN's joint critic.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``H`` number
of features, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.encoder import Encoder
from rllib_risk.networks.layers import mlp
from rllib_risk.parts.critics.base import JointCritic


class QtranCritic(JointCritic):
    """QTRAN-base critic (Son et al., 2019), with PyMARL's small networks.

    Every agent's features and action pass through one shared network and are summed:
    ``Q_jt = f(s, sum_i e(h_i, u_i))``. The value ``V(s)`` corrects for partial
    observability. It depends only on the state, as in PyMARL; in the paper it depends
    on the features.
    """

    needs_state = True

    # Width of the networks that read the state.
    WIDTH = 64

    def __init__(
        self,
        sizes: TeamSizes,
        feature_size: int,
        make_encoder: Callable[[], Encoder],
        options: Any = None,
    ) -> None:
        """Initializes the critic; see :class:`JointCritic`."""
        super().__init__(sizes, feature_size, make_encoder, options)
        self.num_actions = sizes.num_actions
        size, state_size = feature_size + sizes.num_actions, sizes.state_size
        self.embed = mlp(size, size, size)
        self.joint = mlp(state_size + size, self.WIDTH, self.WIDTH, 1)
        self.value = mlp(state_size, self.WIDTH, self.WIDTH, 1)

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the agents' features, so the critic's loss trains them too."""
        return features

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_jt``, ``[B, T, 1]``."""
        taken = F.one_hot(actions, self.num_actions).to(encoded.dtype)
        embedded = self.embed(torch.cat([encoded, taken], dim=-1))  # [B, T, N, H + A]
        return self.joint(torch.cat([state, embedded.sum(dim=-2)], dim=-1))

    def state_value(self, state: Tensor) -> Tensor:
        """Computes ``V(s)`` of the losses that tie the utilities to ``Q_jt``.

        Args:
            state: Global states, ``[B, T, S]``.

        Returns:
            Values ``[B, T, 1]``.
        """
        return self.value(state)
