"""Mixers: from the agents' utilities to the team's value.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``S`` state size, ``E`` width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixer(nn.Module):
    """From ``N`` utilities to the team's value.

    Attributes:
        needs_state: Whether an environment without a state must be refused.
    """

    needs_state = False

    def forward(self, utilities: Tensor, state: Tensor) -> Tensor:
        """Mixes.

        Args:
            utilities: Risk-adjusted utilities of one action each, ``[B, T, N]``.
            state: ``[B, T, S]``.

        Returns:
            ``[B, T, 1]``, or ``[B, T, N]`` where agents learn independently.
        """
        raise NotImplementedError


class NoMixer(Mixer):
    """Independent learners (Tan, 1993): every agent has the team's reward to itself."""

    def forward(self, utilities: Tensor, state: Tensor) -> Tensor:
        """Returns the utilities as they are, ``[B, T, N]``."""
        return utilities


class SumMixer(Mixer):
    """Value decomposition (Sunehag et al., 2018): ``Q_tot = sum_i Q_i``."""

    def forward(self, utilities: Tensor, state: Tensor) -> Tensor:
        """Returns the sum over agents, ``[B, T, 1]``."""
        return utilities.sum(dim=-1, keepdim=True)


class MonotonicMixer(Mixer):
    """QMIX (Rashid et al., 2018): a mixing network with non-negative weights.

    ``Q_tot = ELU(q W1(s) + b1(s)) w2(s) + v(s)``, with ``W1`` and ``w2`` the absolute
    values of two-layer hypernetworks of the state, ``b1`` linear, ``v`` of two layers.
    Only the weights are made non-negative, never the biases.
    """

    needs_state = True

    def __init__(
        self, num_agents: int, state_size: int, embed_dim: int, hypernet_dim: int
    ) -> None:
        """Initializes the mixer.

        Args:
            num_agents: ``N``.
            state_size: ``S``.
            embed_dim: ``E``.
            hypernet_dim: Hidden size of the hypernetworks of the weights.
        """
        super().__init__()
        self.num_agents = num_agents
        self.embed_dim = embed_dim

        def hypernet(size: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(state_size, hypernet_dim),
                nn.ReLU(),
                nn.Linear(hypernet_dim, size),
            )

        self.hyper_w1 = hypernet(num_agents * embed_dim)
        self.hyper_b1 = nn.Linear(state_size, embed_dim)
        self.hyper_w2 = hypernet(embed_dim)
        self.value = nn.Sequential(
            nn.Linear(state_size, embed_dim), nn.ReLU(), nn.Linear(embed_dim, 1)
        )

    def forward(self, utilities: Tensor, state: Tensor) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``."""
        w1 = self.hyper_w1(state).abs()
        w1 = w1.unflatten(-1, (self.num_agents, self.embed_dim))  # [B, T, N, E]
        mixed = (utilities.unsqueeze(-2) @ w1).squeeze(-2)  # [B, T, E]
        hidden = F.elu(mixed + self.hyper_b1(state))
        w2 = self.hyper_w2(state).abs()
        return (hidden * w2).sum(dim=-1, keepdim=True) + self.value(state)


def make_mixer(
    kind: str, num_agents: int, state_size: int, embed_dim: int, hypernet_dim: int
) -> Mixer:
    """Makes the mixer that a configuration names.

    Args:
        kind: ``none``, ``vdn`` or ``qmix``.
        num_agents: ``N``.
        state_size: ``S``.
        embed_dim: Mixing width ``E`` (``qmix``).
        hypernet_dim: Hidden size of the hypernetworks (``qmix``).

    Returns:
        The mixer.

    Raises:
        ValueError: If ``kind`` is unknown, or needs a state that is not there.
    """
    if kind == "none":
        return NoMixer()
    if kind == "vdn":
        return SumMixer()
    if kind == "qmix":
        if state_size == 0:
            raise ValueError("mixer 'qmix' needs a state; the environment has none.")
        return MonotonicMixer(num_agents, state_size, embed_dim, hypernet_dim)
    raise ValueError(f"Unknown mixer {kind!r}.")


def monotone_slopes(mixer: Mixer, utilities: Tensor, state: Tensor) -> Tensor:
    """Slope of the team's value in each utility, by autograd; for checks and plots.

    Args:
        mixer: A mixer with one output.
        utilities: ``[B, T, N]``.
        state: ``[B, T, S]``.

    Returns:
        ``[B, T, N]``.
    """
    inputs = utilities.detach().requires_grad_(True)
    return torch.autograd.grad(mixer(inputs, state).sum(), inputs)[0]
