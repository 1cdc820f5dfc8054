"""Centralised critics of actor-critic teams: a value for every action of every agent.

A critic sees the global state and is used in training only. One network serves all
agents.

Letters: ``B`` episodes, ``R`` rows of an episode, ``N`` agents, ``A`` actions, ``S``
state size, ``D`` observation size, ``I`` input size, ``G`` outputs of the mixing (1, or
``N``). ``...`` is ``B, R`` or ``B``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import mlp

_MIXING_WIDTH = 32


class TeamCritic(nn.Module):
    """What the learner asks of a critic.

    Attributes:
        sizes: What the environment fixes.
        input_size: ``I``.
    """

    sizes: TeamSizes
    input_size: int

    def inputs(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """The critic's inputs over whole episodes.

        Args:
            obs: ``[B, R, N, D]``.
            state: ``[B, R, S]``.
            actions: What was done in every row, int64 ``[B, R, N]``.

        Returns:
            ``[B, R, N, I]``.
        """
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Values of all actions of every agent.

        Args:
            inputs: ``[..., N, I]``.

        Returns:
            ``[..., N, A]``.
        """
        raise NotImplementedError

    def weights(self, state: Tensor) -> Tensor:
        """How much each agent's advantage counts in the actor's loss.

        Args:
            state: ``[..., S]``.

        Returns:
            ``[..., N]``.
        """
        raise NotImplementedError

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """What targets are made of and fitted by.

        Args:
            values: One value per agent, ``[..., N]``.
            state: ``[..., S]``.

        Returns:
            ``[..., G]``.
        """
        raise NotImplementedError

    def mixing_parameters(self) -> list[nn.Parameter]:
        """Parameters with a learning rate of their own; none by default."""
        return []

    def value_parameters(self) -> list[nn.Parameter]:
        """All other parameters."""
        mixing = {id(p) for p in self.mixing_parameters()}
        return [p for p in self.parameters() if id(p) not in mixing]


class CounterfactualCritic(TeamCritic):
    """COMA (Foerster et al., 2018): an agent's values, given what the others do.

    Input: state, the agent's observation, the joint action without the agent's own
    (that block is zero), the joint action before it (zeros at the start), the agent's
    id. Three linear layers with ReLU between them, as in PyMARL.
    """

    def __init__(self, sizes: TeamSizes, hidden_size: int) -> None:
        """Initializes the critic.

        Args:
            sizes: What the environment fixes.
            hidden_size: Width of both hidden layers.
        """
        super().__init__()
        n, a = sizes.num_agents, sizes.num_actions
        self.sizes = sizes
        self.input_size = sizes.state_size + sizes.obs_size + 2 * n * a + n
        self.body = mlp(self.input_size, hidden_size, hidden_size, a)
        self.register_buffer("ids", torch.eye(n), persistent=False)
        # [N, N * A]: 0 on the agent's own block of the joint action
        others = (1.0 - torch.eye(n)).repeat_interleave(a, dim=1)
        self.register_buffer("others", others, persistent=False)

    ids: Tensor
    others: Tensor

    def inputs(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`TeamCritic.inputs`."""
        n = self.sizes.num_agents
        joint = F.one_hot(actions, self.sizes.num_actions).to(obs.dtype)
        joint = joint.flatten(2)  # [B, R, N * A]
        before = torch.cat([torch.zeros_like(joint[:, :1]), joint[:, :-1]], dim=1)

        def for_each(rows: Tensor) -> Tensor:
            return rows.unsqueeze(2).expand(-1, -1, n, -1)

        return torch.cat(
            [
                for_each(state),
                obs,
                for_each(joint) * self.others,
                for_each(before),
                self.ids.expand(*obs.shape[:2], -1, -1),
            ],
            dim=-1,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """See :meth:`TeamCritic.forward`."""
        return self.body(inputs)

    def weights(self, state: Tensor) -> Tensor:
        """Ones: every agent's advantage counts in full."""
        return state.new_ones(*state.shape[:-1], self.sizes.num_agents)

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """Returns the values as they are, ``[..., N]``: each agent has a target."""
        return values


class DecomposedCritic(TeamCritic):
    """DOP (Wang et al., 2021): the team's value is linear in the agents' values.

    ``Q_i(a) = a_i(a) + v_i`` of state, observation and id, without any action among the
    inputs; ``Q_tot = sum_i k_i(s) Q_i (+ b(s))``, ``k_i >= 0``, ``sum_i k_i = 1``. The
    paper has ``b`` and does not normalise; the released code has no ``b`` and does.
    """

    def __init__(self, sizes: TeamSizes, hidden_size: int, *, bias: bool) -> None:
        """Initializes the critic.

        Args:
            sizes: What the environment fixes.
            hidden_size: Width of both hidden layers.
            bias: Whether there is ``b``.
        """
        super().__init__()
        n = sizes.num_agents
        self.sizes = sizes
        self.input_size = sizes.state_size + sizes.obs_size + n
        outputs = sizes.num_actions + 1  # a_i of every action, and v_i
        self.body = mlp(self.input_size, hidden_size, hidden_size, outputs)
        self.first = nn.Linear(sizes.state_size, _MIXING_WIDTH * n)
        self.second = nn.Linear(sizes.state_size, _MIXING_WIDTH)
        self.bias = mlp(sizes.state_size, _MIXING_WIDTH, 1) if bias else None
        self.register_buffer("ids", torch.eye(n), persistent=False)

    ids: Tensor

    def inputs(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`TeamCritic.inputs`; the actions are not used."""
        states = state.unsqueeze(2).expand(-1, -1, self.sizes.num_agents, -1)
        ids = self.ids.expand(*obs.shape[:2], -1, -1)
        return torch.cat([states, obs, ids], dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """See :meth:`TeamCritic.forward`."""
        out = self.body(inputs)  # [..., N, A + 1]
        return out[..., :-1] + out[..., -1:]

    def weights(self, state: Tensor) -> Tensor:
        """The slopes ``k_i``; they sum to 1."""
        first = self.first(state).abs()
        first = first.unflatten(-1, (self.sizes.num_agents, _MIXING_WIDTH))
        second = self.second(state).abs().unsqueeze(-1)
        k = (first @ second).squeeze(-1)  # [..., N]
        return k / k.sum(dim=-1, keepdim=True)

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_tot``, ``[..., 1]``."""
        mixed = (self.weights(state) * values).sum(dim=-1, keepdim=True)
        return mixed if self.bias is None else mixed + self.bias(state)

    def mixing_parameters(self) -> list[nn.Parameter]:
        """Parameters of ``k`` and ``b``."""
        parts = (self.first, self.second, self.bias)
        return [p for part in parts if part is not None for p in part.parameters()]
