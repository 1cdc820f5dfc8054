"""QMIX's mixer.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``S`` state size, ``E`` width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.config.options import option
from rllib_risk.config.schema import MAX_WIDTH
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.layers import mlp
from rllib_risk.parts.mixers.base import Form, Mixer, MixerInputs


class MonotonicMixer(Mixer):
    """QMIX (Rashid et al., 2018): a mixing network with non-negative weights.

    ``Q_tot = ELU(q W1(s) + b1(s)) w2(s) + v(s)``. ``W1`` and ``w2`` are the absolute
    values of hypernetworks of the state, ``b1`` is linear, and ``v`` has two layers.
    Only the weights are non-negative; the biases are unrestricted.
    """

    needs_state = True
    broadcasts = True

    @dataclass(frozen=True)
    class Options:
        mixing_embed_dim: int = option(
            32,
            "Number of units of mixer qmix's hidden layer.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        hypernet_embed_dim: int = option(
            64,
            "Number of units of qmix's hypernetworks, if they have two layers.",
            low=1,
            high=MAX_WIDTH,
            fixed=True,
        )
        hypernet_layers: int = option(
            2, "Number of layers of qmix's hypernetworks.", low=1, high=2, fixed=True
        )
        hypernet_gain: float | None = option(
            None,
            "Gain of Xavier uniform initialization of qmix's layers, with zero biases;"
            " null: PyTorch's initialization. A small gain helps if states contain"
            " large numbers, such as temperatures.",
            low=0.0,
            low_open=True,
            high=100.0,
        )

    options: Options

    def __init__(self, sizes: TeamSizes, options: Options | None = None) -> None:
        """Initializes the mixer; see :class:`Mixer`."""
        super().__init__(sizes, options)
        embed_dim = self.options.mixing_embed_dim
        width = [self.options.hypernet_embed_dim] * (self.options.hypernet_layers - 1)
        state_size, self.num_agents = sizes.state_size, sizes.num_agents
        self.embed_dim = embed_dim
        self.hyper_w1 = mlp(state_size, *width, self.num_agents * embed_dim)
        self.hyper_b1 = nn.Linear(state_size, embed_dim)
        self.hyper_w2 = mlp(state_size, *width, embed_dim)
        self.value = mlp(state_size, embed_dim, 1)
        if self.options.hypernet_gain is not None:
            self._initialize(self.options.hypernet_gain)

    def _initialize(self, gain: float) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, gain)
                nn.init.zeros_(layer.bias)

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``."""
        state = team.state
        w1 = self.hyper_w1(state).abs()
        w1 = w1.unflatten(-1, (self.num_agents, self.embed_dim))  # [B, T, N, E]
        mixed = (team.utilities.unsqueeze(-2) @ w1).squeeze(-2)  # [B, T, E]
        hidden = F.elu(mixed + self.hyper_b1(state))
        w2 = self.hyper_w2(state).abs()
        return (hidden * w2).sum(dim=-1, keepdim=True) + self.value(state)


class MonotonicQuantileMixer(MonotonicMixer):
    """QMIX's network, applied to every quantile.

    ``Z(tau) = f(s, theta_1(tau), ..., theta_N(tau))`` with the ``f`` of
    :class:`MonotonicMixer`. Monotonic functions commute with quantiles, so the team's
    VaR is ``f`` of the agents' VaRs. This holds for no other risk measure.
    """

    form: ClassVar[Form] = "per_quantile"

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """See :meth:`Mixer.mix_atoms`. One pass mixes all quantiles."""
        atoms = cast("Tensor", team.atoms).transpose(-1, -2)  # [B, T, M, N]
        state = team.state.unsqueeze(-2)  # [B, T, 1, S]
        w1 = self.hyper_w1(state).abs()
        w1 = w1.unflatten(-1, (self.num_agents, self.embed_dim)).squeeze(-3)
        hidden = F.elu(atoms @ w1 + self.hyper_b1(state))  # [B, T, M, E]
        w2 = self.hyper_w2(state).abs()
        mixed = (hidden * w2).sum(dim=-1) + self.value(state).squeeze(-1)  # [B, T, M]
        return mixed.unsqueeze(-2)
