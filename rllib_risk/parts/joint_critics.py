"""Joint critics: unrestricted values of the joint action.

A monotone or additive team value cannot fit every payoff. QTRAN and WQMIX therefore
learn a second value without that restriction, take their targets from it, and fit the
restricted one to it.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``I`` input size,
``H`` hidden size, ``S`` state size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.networks.agent import Encoder
from rllib_risk.networks.layers import mlp

if TYPE_CHECKING:
    from rllib_risk.parts.team import TeamNetworkConfig


class JointCritic(nn.Module):
    """Value of the joint action, not restricted to what agents can maximize alone."""

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """What the critic reads of whole episodes, for any joint actions.

        Args:
            inputs: The agents' inputs, ``[B, T, N, I]``.
            features: The agents' own features of them, ``[B, T, N, H]``.

        Returns:
            ``[B, T, N, H]``.
        """
        raise NotImplementedError

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """The value of a joint action at every step.

        Args:
            encoded: From :meth:`encode`, ``[B, T, N, H]``.
            actions: int64 ``[B, T, N]``.
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, 1]``.
        """
        raise NotImplementedError


class QtranCritic(JointCritic):
    """QTRAN-base (Son et al., 2019), with PyMARL's small networks.

    Every agent's features and action pass through one shared network and are summed:
    ``Q_jt = f(s, sum_i e(h_i, u_i))``. The value ``V(s)`` that makes up for what agents
    cannot see depends on the state alone, as in PyMARL; in the paper on the features.
    """

    def __init__(
        self, num_actions: int, hidden_size: int, state_size: int, embed_dim: int = 64
    ) -> None:
        """Initializes the critic.

        Args:
            num_actions: ``A``.
            hidden_size: ``H``.
            state_size: ``S``.
            embed_dim: Width of the networks that read the state.
        """
        super().__init__()
        self.num_actions = num_actions
        size = hidden_size + num_actions
        self.embed = mlp(size, size, size)
        self.joint = mlp(state_size + size, embed_dim, embed_dim, 1)
        self.value = mlp(state_size, embed_dim, embed_dim, 1)

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the agents' own features: this critic's loss trains them too."""
        return features

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_jt``, ``[B, T, 1]``."""
        taken = F.one_hot(actions, self.num_actions).to(encoded.dtype)
        embedded = self.embed(torch.cat([encoded, taken], dim=-1))  # [B, T, N, H + A]
        return self.joint(torch.cat([state, embedded.sum(dim=-2)], dim=-1))

    def state_value(self, state: Tensor) -> Tensor:
        """``V(s)`` of the losses that tie the utilities to ``Q_jt``.

        Args:
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, 1]``.
        """
        return self.value(state)


class WqmixCritic(JointCritic):
    """``Qhat*`` of weighted QMIX (Rashid et al., 2020).

    Central agents of their own give one number per action; those of the actions taken
    go with the state through a feed-forward network, plus ``V(s)``. One central agent
    serves all, even where their acting networks are not shared: it tells them apart by
    their ids, and not at all where inputs have none.
    """

    def __init__(
        self,
        input_size: int,
        num_agents: int,
        num_actions: int,
        hidden_size: int,
        recurrent: bool,
        state_size: int,
        embed_dim: int = 256,
        *,
        rnn_cell: str = "gru",
    ) -> None:
        """Initializes the critic.

        Args:
            input_size: ``I``.
            num_agents: ``N``.
            num_actions: ``A``.
            hidden_size: ``H``.
            recurrent: Whether the central agent has memory.
            state_size: ``S``.
            embed_dim: Width of the networks that read the state.
            rnn_cell: ``gru`` or ``lstm``.
        """
        super().__init__()
        self.encoder = Encoder(input_size, hidden_size, recurrent, rnn_cell)
        self.head = nn.Linear(hidden_size, num_actions)
        size = state_size + num_agents
        self.joint = mlp(size, embed_dim, embed_dim, embed_dim, 1)
        self.value = mlp(state_size, embed_dim, 1)

    def encode(self, inputs: Tensor, features: Tensor) -> Tensor:
        """Returns the central agents' features; ``features`` are not read."""
        rows = inputs.transpose(1, 2).flatten(0, 1)  # [B * N, T, I]
        central = self.encoder(rows, None)[0]
        size = (inputs.shape[0], inputs.shape[2])
        return central.unflatten(0, size).transpose(1, 2)  # [B, T, N, H]

    def forward(self, encoded: Tensor, actions: Tensor, state: Tensor) -> Tensor:
        """Returns ``Qhat*``, ``[B, T, 1]``."""
        values = self.head(self.encoder.readout(encoded))  # [B, T, N, A]
        taken = values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # [B, T, N]
        return self.joint(torch.cat([state, taken], dim=-1)) + self.value(state)


def make_joint_critic(
    kind: str, sizes: TeamSizes, config: TeamNetworkConfig, input_size: int
) -> JointCritic | None:
    """Makes the joint critic that a configuration names.

    Args:
        kind: ``none``, ``qtran`` or ``wqmix``.
        sizes: What the environment fixes.
        config: What the configuration fixes.
        input_size: ``I``.

    Returns:
        The critic, or None.

    Raises:
        ValueError: If ``kind`` is unknown, or needs a state that is not there.
    """
    if kind == "none":
        return None
    if kind not in ("qtran", "wqmix"):
        raise ValueError(f"Unknown joint_critic {kind!r}; known: none, qtran, wqmix.")
    if sizes.state_size == 0:
        raise NeedsStateError("joint_critic", kind)
    if kind == "qtran":
        return QtranCritic(sizes.num_actions, config.hidden_size, sizes.state_size)
    return WqmixCritic(
        input_size,
        sizes.num_agents,
        sizes.num_actions,
        config.hidden_size,
        config.recurrent,
        sizes.state_size,
        rnn_cell=config.rnn_cell,
    )
