"""Centralised critics of actor-critic teams: a value for every action of every agent.

A critic reads the global state and is used only in training. All agents share one
network.

Letters: ``B`` episodes, ``R`` rows of an episode, ``N`` agents, ``A`` actions, ``S``
state size, ``D`` observation size, ``I`` input size, ``G`` outputs of the mixing (1, or
``N``). ``...`` stands for ``B, R`` or ``B``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import mlp

_MIXING_WIDTH = 32


class TeamCritic(nn.Module):
    """Base class of centralised critics.

    Attributes:
        sizes: Sizes of the team and its observations.
        input_size: ``I``.
    """

    sizes: TeamSizes
    input_size: int

    def inputs(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """Builds the critic's inputs for whole episodes.

        Args:
            obs: Observations, ``[B, R, N, D]``.
            state: Global states, ``[B, R, S]``.
            actions: Actions taken in every row, int64 ``[B, R, N]``.

        Returns:
            Inputs ``[B, R, N, I]``.
        """
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Computes the values of all actions of every agent.

        Args:
            inputs: See :meth:`inputs`, ``[..., N, I]``.

        Returns:
            Action values ``[..., N, A]``.
        """
        raise NotImplementedError

    def weights(self, state: Tensor) -> Tensor:
        """Computes the weight of each agent's advantage in the actor's loss.

        Args:
            state: Global states, ``[..., S]``.

        Returns:
            Weights ``[..., N]``.
        """
        raise NotImplementedError

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """Mixes the agents' values into the values that are fitted to the targets.

        Args:
            values: One value per agent, ``[..., N]``.
            state: Global states, ``[..., S]``.

        Returns:
            Mixed values ``[..., G]``.
        """
        raise NotImplementedError

    def mixing_parameters(self) -> list[nn.Parameter]:
        """Parameters with a separate learning rate; empty by default."""
        return []

    def value_parameters(self) -> list[nn.Parameter]:
        """Parameters with the critic's learning rate: all except the mixing ones."""
        mixing = {id(p) for p in self.mixing_parameters()}
        return [p for p in self.parameters() if id(p) not in mixing]


class CounterfactualCritic(TeamCritic):
    """COMA critic (Foerster et al., 2018): an agent's values given the others' actions.

    The input is the state, the agent's observation, the joint action (zeros in place of
    the agent's own action), the previous joint action (zeros at the start) and the
    agent's id. Three linear layers with ReLU between them follow, as in PyMARL.
    """

    def __init__(self, sizes: TeamSizes, hidden_size: int) -> None:
        """Initializes the critic.

        Args:
            sizes: Sizes of the team and its observations.
            hidden_size: Width of both hidden layers.
        """
        super().__init__()
        n, a = sizes.num_agents, sizes.num_actions
        self.sizes = sizes
        self.input_size = sizes.state_size + sizes.obs_size + 2 * n * a + n
        self.body = mlp(self.input_size, hidden_size, hidden_size, a)
        self.register_buffer("ids", torch.eye(n, device="cpu"), persistent=False)
        # [N, N * A]: 0 for the agent's own action, 1 for the others
        others = (1.0 - torch.eye(n, device="cpu")).repeat_interleave(a, dim=1)
        self.register_buffer("others", others, persistent=False)

    ids: Tensor
    others: Tensor

    def inputs(self, obs: Tensor, state: Tensor, actions: Tensor) -> Tensor:
        """See :meth:`TeamCritic.inputs`."""
        n = self.sizes.num_agents
        joint = F.one_hot(actions, self.sizes.num_actions).to(obs.dtype)
        joint = joint.flatten(2)  # [B, R, N * A]
        before = torch.cat([torch.zeros_like(joint[:, :1]), joint[:, :-1]], dim=1)

        def per_agent(rows: Tensor) -> Tensor:
            return rows.unsqueeze(2).expand(-1, -1, n, -1)

        return torch.cat(
            [
                per_agent(state),
                obs,
                per_agent(joint) * self.others,
                per_agent(before),
                self.ids.expand(*obs.shape[:2], -1, -1),
            ],
            dim=-1,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """See :meth:`TeamCritic.forward`."""
        return self.body(inputs)

    def weights(self, state: Tensor) -> Tensor:
        """Returns ones: all agents' advantages have the same weight."""
        return state.new_ones(*state.shape[:-1], self.sizes.num_agents)

    def mix(self, values: Tensor, state: Tensor) -> Tensor:
        """Returns the values unchanged, ``[..., N]``: each agent has its own target."""
        return values


class DecomposedCritic(TeamCritic):
    """DOP critic (Wang et al., 2021): the team's value is linear in the agents' values.

    ``Q_i(a) = a_i(a) + v_i`` reads state, observation and id, but no action.
    ``Q_tot = sum_i k_i(s) Q_i (+ b(s))``, ``k_i >= 0``, ``sum_i k_i = 1``. The paper
    has ``b`` and does not normalise ``k``. The released code has no ``b`` and
    normalises ``k``.
    """

    def __init__(self, sizes: TeamSizes, hidden_size: int, *, bias: bool) -> None:
        """Initializes the critic.

        Args:
            sizes: Sizes of the team and its observations.
            hidden_size: Width of both hidden layers.
            bias: Whether to add ``b(s)``.
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
        self.register_buffer("ids", torch.eye(n, device="cpu"), persistent=False)

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
        """Computes the mixing weights ``k_i``, which sum to 1."""
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
        """Returns the parameters of ``k`` and ``b``."""
        parts = (self.first, self.second, self.bias)
        return [p for part in parts if part is not None for p in part.parameters()]
