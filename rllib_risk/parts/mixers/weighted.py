"""RiskQ's mixer: a weighted sum with attention weights.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``S`` state size, ``D`` observation
size, ``U`` size of an agent's description, ``M`` atoms, ``H`` heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import mlp
from rllib_risk.parts.mixers.base import Form, Mixer, MixerInputs


class WeightedMixer(Mixer):
    """RiskQ (Shen et al., NeurIPS 2023): a sum with state-dependent weights.

    ``Z(tau) = sum_i k_i(s) theta_i(tau) + c(s)`` with

        ``k_i = sum_h |w_h(s)| softmax_i(query_h(s) . key_h(u_i) / sqrt(d)) >= 0``.

    Every distortion of probability (CVaR, VaR, Wang, ...) is comonotone additive and
    positively homogeneous. For such a measure the agents' best actions therefore form
    the best joint action. ``u_i`` describes agent ``i``: its observation, or its part
    of the state, as in the authors' code.
    """

    needs_state = True
    form: ClassVar[Form] = "weighted"

    # Widths in the authors' code: query and key, and the hidden layers of query, w, c.
    KEY, QUERY, HEAD, OFFSET = 16, 32, 32, 16

    @dataclass(frozen=True)
    class Options:
        riskq_heads: int = option(
            1,
            "Number of attention heads of mixer riskq.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        riskq_unit_size: int | None = option(
            None,
            "Size of an agent's part of the state. Mixer riskq reads consecutive parts"
            " of this size from the start of the state, one per agent (SMAC's layout);"
            " null: it reads the agents' observations.",
            low=1,
            high=MAX_WIDTH,
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
                f" agents are more than the {state_size} numbers of the state. Lower"
                " riskq_unit_size, or set it to null to use the observations."
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
        """Returns weighted sums of atoms of the same fraction, ``[B, T, 1, M]``."""
        weights = self.weights(team).unsqueeze(-2)  # [B, T, 1, N]
        mixed = weights @ cast("Tensor", team.atoms)
        return mixed + self.offset(team.state).unsqueeze(-1)

    def weights(self, team: MixerInputs) -> Tensor:
        """Computes the weights ``k``.

        Args:
            team: State, and observations if they describe the agents.

        Returns:
            Non-negative weights, ``[B, T, N]``.
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
