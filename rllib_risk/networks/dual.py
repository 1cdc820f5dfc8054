"""Network of the dual variable of total variation, from state and joint action.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``G`` outputs of the mixer (1, or ``N``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import NeedsStateError, TeamSizes


class DualNetwork(nn.Module):
    """Network of ``eta(s, u)``, a quantile of the next value.

    Qu et al. (ICLR 2026), as in the released code: the state and the joint action
    (one-hot per agent) each pass through a linear layer with ReLU. Their concatenation
    passes through another one.
    """

    def __init__(
        self,
        sizes: TeamSizes,
        num_outputs: int = 1,
        embed_dim: int = 64,
        part: str = "tv",
    ) -> None:
        """Initializes the network.

        Args:
            sizes: Sizes of the team and its observations.
            num_outputs: ``G``, number of learned values.
            embed_dim: Width of all layers.
            part: Name of the target, for error messages.

        Raises:
            NeedsStateError: If the environment has no global state.
        """
        super().__init__()
        if sizes.state_size == 0:
            raise NeedsStateError("target", part)
        joint_size = sizes.num_agents * sizes.num_actions
        self.state = nn.Linear(sizes.state_size, embed_dim)
        self.joint = nn.Linear(joint_size, embed_dim)
        self.hidden = nn.Linear(2 * embed_dim, embed_dim)
        self.output = nn.Linear(embed_dim, num_outputs)
        first = torch.arange(sizes.num_agents) * sizes.num_actions
        self.register_buffer("first", first, persistent=False)

    first: Tensor

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """Computes the dual variable of every step.

        Args:
            state: Global states, ``[B, T, S]``.
            actions: Joint actions, int64 ``[B, T, N]``.

        Returns:
            Dual variables ``[B, T, G]``.
        """
        # An embedding lookup gives the product with one-hot rows without forming them.
        columns = F.embedding(actions + self.first, self.joint.weight.t())
        joint = F.relu(columns.sum(dim=-2) + self.joint.bias)
        hidden = torch.cat([F.relu(self.state(state)), joint], dim=-1)
        return self.output(F.relu(self.hidden(hidden)))


class FactoredDualNetwork(DualNetwork):
    """Network of ``eta(s, u) = sum_i eta_i(s, u_i) + eta'(s, u)``, for nested CVaR.

    Each ``eta_i`` learns about an action of agent ``i`` from all joint actions that
    contain it. Without this sum, ``eta`` has large errors at rare joint actions. Each
    error of ``eta`` lowers the target, so the greedy joint action would not change.
    """

    def __init__(
        self, sizes: TeamSizes, num_outputs: int = 1, embed_dim: int = 64
    ) -> None:
        """Initializes the network.

        Args:
            sizes: Sizes of the team and its observations.
            num_outputs: ``G``, number of learned values.
            embed_dim: Width of all layers.

        Raises:
            NeedsStateError: If the environment has no global state.
        """
        super().__init__(sizes, num_outputs, embed_dim, part="cvar")
        num_heads = sizes.num_agents * sizes.num_actions
        self.by_agent = nn.Sequential(
            nn.Linear(sizes.state_size, embed_dim),
            nn.ReLU(),
            nn.Linear(embed_dim, embed_dim),
            nn.ReLU(),
            nn.Linear(embed_dim, num_heads * num_outputs),
            nn.Unflatten(-1, (num_heads, num_outputs)),
        )

    def forward(self, state: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`DualNetwork.forward`."""
        heads = self.by_agent(state)  # [B, T, N * A, G]
        index = (
            (actions + self.first).unsqueeze(-1).expand(*actions.shape, heads.shape[-1])
        )
        return super().forward(state, actions) + heads.gather(-2, index).sum(dim=-2)
