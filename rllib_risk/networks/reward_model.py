"""Reward network for groups of environments, from state, joint action and time.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``G`` groups.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import NeedsStateError, TeamSizes


class RewardModel(nn.Module):
    """Network ``f(s, u, t)`` with one reward per group.

    GroupDR as released by Qu et al. (ICLR 2026): the state, the joint action (one-hot
    per agent) and the time each pass through a linear layer with ReLU. Their
    concatenation passes through another one.

    Attributes:
        time_scale: Number of steps that count as a time of 1, a scalar. It is not
            trained. The model's output depends on it, so it is saved like a parameter.
    """

    def __init__(self, sizes: TeamSizes, num_groups: int, embed_dim: int = 64) -> None:
        """Initializes the model.

        Args:
            sizes: Sizes of the team and its observations.
            num_groups: ``G``, number of groups.
            embed_dim: Width of all layers.

        Raises:
            NeedsStateError: If the environment has no global state.
            ValueError: If there are fewer than two groups.
        """
        super().__init__()
        if sizes.state_size == 0:
            raise NeedsStateError("run", "GroupDR")
        if num_groups < 2:
            raise ValueError(f"GroupDR needs at least two groups, not {num_groups}.")
        joint_size = sizes.num_agents * sizes.num_actions
        self.state = nn.Linear(sizes.state_size, embed_dim)
        self.joint = nn.Linear(joint_size, embed_dim)
        self.time = nn.Linear(1, embed_dim)
        self.hidden = nn.Linear(3 * embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, num_groups)
        self.time_scale = nn.Parameter(torch.ones(()), requires_grad=False)
        first = torch.arange(sizes.num_agents) * sizes.num_actions
        self.register_buffer("first", first, persistent=False)

    first: Tensor

    def set_time_scale(self, steps: int) -> None:
        """Sets the number of steps that count as a time of 1.

        Args:
            steps: Number of steps, such as the length of an episode.
        """
        self.time_scale.fill_(steps)

    def forward(self, state: Tensor, actions: Tensor, steps: Tensor) -> Tensor:
        """Computes the rewards of every step.

        Args:
            state: Global states, ``[B, T, S]``.
            actions: Joint actions, int64 ``[B, T, N]``.
            steps: Steps since the episode began, ``[B, T]``.

        Returns:
            Rewards ``[B, T, G]``.
        """
        # An embedding lookup gives the product with one-hot rows without forming them.
        columns = F.embedding(actions + self.first, self.joint.weight.t())
        joint = F.relu(columns.sum(dim=-2) + self.joint.bias)
        time = (steps / self.time_scale).unsqueeze(-1)  # [B, T, 1]
        encoded = [F.relu(self.state(state)), joint, F.relu(self.time(time))]
        return self.output(F.relu(self.hidden(torch.cat(encoded, dim=-1))))
