"""RiskQ's mixer: a weighted sum, whose weights come from attention.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``S`` state size, ``D`` observation
size, ``U`` size of what describes one agent, ``M`` atoms, ``H`` heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MOST_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import mlp
from rllib_risk.parts.mixers.base import Form, Mixer, MixerInputs


class WeightedMixer(Mixer):
    """RiskQ (Shen et al., NeurIPS 2023): a sum with weights of the state.

    ``Z(tau) = sum_i k_i(s) theta_i(tau) + c(s)`` with

        ``k_i = sum_h |w_h(s)| softmax_i(query_h(s) . key_h(u_i) / sqrt(d)) >= 0``.

    Every distortion of probability (CVaR, VaR, Wang, ...) adds up over comonotone
    sums and is positively homogeneous, so the best joint action for such a measure is
    every agent's own. ``u_i`` describes agent ``i``: its observation, or its part of
    the state, as in the authors' code.
    """

    needs_state = True
    form: ClassVar[Form] = "weighted"

    # Widths of the authors' networks: query, its hidden layer, w's, and c's.
    KEY, QUERY, HEAD, OFFSET = 16, 32, 32, 16

    @dataclass(frozen=True)
    class Options:
        riskq_heads: int = option(
            1, "Attention heads of mixer riskq.", low=1, high=MOST_WIDTH, fixed=True
        )
        riskq_unit_size: int | None = option(
            None,
            "What describes agent i to mixer riskq: this many numbers of the state, the"
            " i-th group from its beginning (SMAC's layout); null: its observation.",
            low=1,
            high=MOST_WIDTH,
            fixed=True,
        )

    options: Options

    def __init__(self, sizes: TeamSizes, options: Options | None = None) -> None:
        """Initializes the mixer; see :class:`Mixer`.

        Raises:
            ValueError: If the state has fewer numbers than ``riskq_unit_size`` needs.
        """
        super().__init__(sizes, options)
        heads, unit_size = self.options.riskq_heads, self.options.riskq_unit_size
        state_size, self.num_agents = sizes.state_size, sizes.num_agents
        self.needs_obs = unit_size is None
        if unit_size is not None and unit_size * self.num_agents > state_size:
            raise ValueError(
                f"riskq_unit_size: {unit_size} numbers for each of {self.num_agents}"
                f" agents are more than the state's {state_size}; lower it, or set"
                " riskq_unit_size: null to use the observations."
            )
        size = sizes.obs_size if unit_size is None else unit_size
        self.queries = nn.ModuleList(
            mlp(state_size, self.QUERY, self.KEY) for _ in range(heads)
        )
        self.keys = nn.ModuleList(nn.Linear(size, self.KEY) for _ in range(heads))
        self.head_weights = mlp(state_size, self.HEAD, heads)
        self.offset = mlp(state_size, self.OFFSET, 1)

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the weighted sum, ``[B, T, 1]``."""
        weighted = self.weights(team) * team.utilities
        return weighted.sum(dim=-1, keepdim=True) + self.offset(team.state)

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns weighted sums of equal fractions, ``[B, T, 1, M]``."""
        weights = self.weights(team).unsqueeze(-2)  # [B, T, 1, N]
        mixed = weights @ cast("Tensor", team.atoms)
        return mixed + self.offset(team.state).unsqueeze(-1)

    def weights(self, team: MixerInputs) -> Tensor:
        """The weights ``k``.

        Args:
            team: State, and observations where they describe the agents.

        Returns:
            Not negative, ``[B, T, N]``.
        """
        state, units = team.state, self._units(team)
        shares = []
        for query, key in zip(self.queries, self.keys, strict=True):
            logits = (key(units) @ query(state).unsqueeze(-1)).squeeze(-1)  # [B, T, N]
            shares.append((logits / self.KEY**0.5).softmax(dim=-1))
        heads = self.head_weights(state).abs()  # [B, T, H]
        return (torch.stack(shares, dim=-1) @ heads.unsqueeze(-1)).squeeze(-1)

    def _units(self, team: MixerInputs) -> Tensor:
        size = self.options.riskq_unit_size
        if size is None:
            return cast("Tensor", team.obs)
        own = team.state[..., : size * self.num_agents]
        return own.unflatten(-1, (self.num_agents, size))
