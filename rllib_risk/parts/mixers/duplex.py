"""QPLEX's mixer.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import StackedMLPs, mlp
from rllib_risk.parts.mixers.base import Mixer, MixerInputs


class DuplexMixer(Mixer):
    """QPLEX (Wang et al., 2021): a duplex dueling mixer.

    ``Qhat_i = w_i Q_i + b_i`` is the value of the action taken, ``Vhat_i`` that of the
    best action, and ``Ahat_i = Qhat_i - Vhat_i <= 0`` the advantage. Then

        ``Q_tot = sum_i Qhat_i + sum_i (lambda_i - 1) Ahat_i
        = sum_i Vhat_i + sum_i lambda_i Ahat_i``.

    ``w_i > 0`` and ``b_i`` depend on the state, ``lambda_i > 0`` on the state and the
    joint action. So the agents' best actions form the best joint action, and every
    value function with this property has this form. As in the authors' code,
    ``Ahat_i`` is detached in the second sum of the first form, so utilities get
    gradients only through ``w_i``. Also as in their code, the state replaces the
    paper's joint history.
    """

    needs_state = True
    needs_greedy = True

    WIDTH = 64
    # Keeps weights above zero if the network's output is zero.
    FLOOR = 1e-10

    @dataclass(frozen=True)
    class Options:
        qplex_heads: int = option(
            4,
            "Number of heads of mixer qplex's importance weights.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        # 1 in the authors' StarCraft runs, 3 in their matrix games.
        qplex_lambda_layers: int = option(
            1,
            "Number of layers of mixer qplex's importance networks.",
            low=1,
            high=3,
            fixed=True,
        )

    options: Options

    def __init__(self, sizes: TeamSizes, options: Options | None = None) -> None:
        """Initializes the mixer; see :class:`Mixer`."""
        super().__init__(sizes, options)
        heads, layers = self.options.qplex_heads, self.options.qplex_lambda_layers
        n, state_size = sizes.num_agents, sizes.state_size
        self.num_actions = sizes.num_actions
        self.weights = mlp(state_size, self.WIDTH, n)
        self.biases = mlp(state_size, self.WIDTH, n)
        hidden = [self.WIDTH] * (layers - 1)
        joint_size = state_size + n * self.num_actions
        self.keys = StackedMLPs(heads, state_size, *hidden, 1)
        self.agents = StackedMLPs(heads, state_size, *hidden, n)
        self.actions = StackedMLPs(heads, joint_size, *hidden, n)

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``.

        Raises:
            ValueError: If the greedy utilities are missing.
        """
        if team.greedy_utilities is None:
            raise ValueError(
                "QPLEX's mixer needs the greedy utilities: pass greedy_utilities."
            )
        weights = self.weights(team.state).abs() + self.FLOOR
        chosen = weights * team.utilities + self.biases(team.state)
        # The bias is the same in Qhat and Vhat.
        advantages = (weights * (team.utilities - team.greedy_utilities)).detach()
        importance = self.importance(team.state, team.actions)
        mixed = chosen + (importance - 1) * advantages  # [B, T, N]
        return mixed.sum(dim=-1, keepdim=True)

    def importance(self, state: Tensor, actions: Tensor) -> Tensor:
        """Computes the importance weights ``lambda`` of the advantages.

        Args:
            state: Global states, ``[B, T, S]``.
            actions: Joint actions, int64 ``[B, T, N]``.

        Returns:
            Positive weights, ``[B, T, N]``.
        """
        joint = F.one_hot(actions, self.num_actions).flatten(-2).to(state.dtype)
        both = torch.cat([state, joint], dim=-1)  # [B, T, S + N * A]
        scales = self.keys(state).abs() + self.FLOOR  # [heads, B, T, 1]
        shares = self.agents(state).sigmoid() * self.actions(both).sigmoid()
        return (scales * shares).sum(dim=0)
