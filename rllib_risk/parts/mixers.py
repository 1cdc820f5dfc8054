"""Mixers: from the agents' utilities to the team's value.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``E`` width.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.networks.layers import StackedMLPs, mlp
from rllib_risk.parts.imports import import_part

if TYPE_CHECKING:
    from rllib_risk.parts.team import TeamNetworkConfig


@dataclass
class MixerInputs:
    """What a mixer may look at.

    Attributes:
        utilities: Risk-adjusted utilities of one action each, ``[B, T, N]``; gradients
            run through them.
        state: ``[B, T, S]``.
        actions: Those actions, int64 ``[B, T, N]``.
        greedy_utilities: Highest utility of each agent among its available actions,
            without gradient, ``[B, T, N]``; None unless the mixer needs it.
        atoms: Return atoms of those actions, at the same fractions for all agents,
            ``[B, T, N, M]``; only for :meth:`Mixer.mix_atoms`. ``utilities`` are then
            their means.
    """

    utilities: Tensor
    state: Tensor
    actions: Tensor
    greedy_utilities: Tensor | None = None
    atoms: Tensor | None = None


class Mixer(nn.Module):
    """From ``N`` utilities to the team's value.

    Attributes:
        needs_state: Whether an environment without a state must be refused.
        needs_greedy: Whether ``greedy_utilities`` must be there.
        mixes_atoms: Whether the class defines :meth:`mix_atoms`.
    """

    needs_state = False
    needs_greedy = False
    mixes_atoms = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Looks whether the class mixes distributions."""
        super().__init_subclass__(**kwargs)
        cls.mixes_atoms = cls.mix_atoms is not Mixer.mix_atoms

    def forward(self, team: MixerInputs) -> Tensor:
        """Mixes.

        Args:
            team: Utilities and what they are utilities of.

        Returns:
            ``[B, T, 1]``, or ``[B, T, N]`` where agents learn independently.
        """
        raise NotImplementedError

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Mixes distributions; only for a loss that fits the team's distribution.

        Args:
            team: Atoms and what they are atoms of.

        Returns:
            ``[B, T, G, M]``, ``G`` as in :meth:`forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} mixes no distributions.")


class NoMixer(Mixer):
    """Independent learners (Tan, 1993): every agent has the team's reward to itself."""

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the utilities as they are, ``[B, T, N]``."""
        return team.utilities

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns the atoms as they are, ``[B, T, N, M]``."""
        return cast("Tensor", team.atoms)


class SumMixer(Mixer):
    """Value decomposition (Sunehag et al., 2018): ``Q_tot = sum_i Q_i``."""

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the sum over agents, ``[B, T, 1]``."""
        return team.utilities.sum(dim=-1, keepdim=True)

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns sums of equal fractions, ``[B, T, 1, M]``.

        That is the sum's distribution if the agents' worst cases come together.
        """
        return cast("Tensor", team.atoms).sum(dim=-2, keepdim=True)


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
        self.hyper_w1 = mlp(state_size, hypernet_dim, num_agents * embed_dim)
        self.hyper_b1 = nn.Linear(state_size, embed_dim)
        self.hyper_w2 = mlp(state_size, hypernet_dim, embed_dim)
        self.value = mlp(state_size, embed_dim, 1)

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``."""
        state = team.state
        w1 = self.hyper_w1(state).abs()
        w1 = w1.unflatten(-1, (self.num_agents, self.embed_dim))  # [B, T, N, E]
        mixed = (team.utilities.unsqueeze(-2) @ w1).squeeze(-2)  # [B, T, E]
        hidden = F.elu(mixed + self.hyper_b1(state))
        w2 = self.hyper_w2(state).abs()
        return (hidden * w2).sum(dim=-1, keepdim=True) + self.value(state)


class DuplexMixer(Mixer):
    """QPLEX (Wang et al., 2021): a duplex dueling mixer.

    With ``Qhat_i = w_i Q_i + b_i`` of the action taken, ``Vhat_i`` the same of the best
    one and ``Ahat_i = Qhat_i - Vhat_i <= 0``,

        ``Q_tot = sum_i Qhat_i + sum_i (lambda_i - 1) Ahat_i
        = sum_i Vhat_i + sum_i lambda_i Ahat_i``.

    ``w_i > 0`` and ``b_i`` depend on the state, ``lambda_i > 0`` on the state and the
    joint action. All agents' best actions together are therefore the best joint action,
    and every value function with this property can be written so. As in the authors'
    code ``Ahat_i`` is detached in the first form's second sum (utilities learn through
    ``w_i`` alone), and the state stands for the joint history of the paper.
    """

    needs_state = True
    needs_greedy = True

    WIDTH = 64
    # Keeps weights above zero where the network itself gives zero.
    FLOOR = 1e-10

    def __init__(
        self,
        num_agents: int,
        num_actions: int,
        state_size: int,
        num_heads: int,
        num_layers: int,
    ) -> None:
        """Initializes the mixer.

        Args:
            num_agents: ``N``.
            num_actions: ``A``.
            state_size: ``S``.
            num_heads: Terms of ``lambda``.
            num_layers: Linear layers of each of the three networks of a head: 1 in the
                authors' StarCraft runs, 3 in their matrix games.
        """
        super().__init__()
        self.num_actions = num_actions
        self.weights = mlp(state_size, self.WIDTH, num_agents)
        self.biases = mlp(state_size, self.WIDTH, num_agents)
        hidden = [self.WIDTH] * (num_layers - 1)
        joint_size = state_size + num_agents * num_actions
        self.keys = StackedMLPs(num_heads, state_size, *hidden, 1)
        self.agents = StackedMLPs(num_heads, state_size, *hidden, num_agents)
        self.actions = StackedMLPs(num_heads, joint_size, *hidden, num_agents)

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns ``Q_tot``, ``[B, T, 1]``.

        Raises:
            ValueError: If the greedy utilities are missing.
        """
        if team.greedy_utilities is None:
            raise ValueError("QPLEX's mixer needs the greedy utilities.")
        weights = self.weights(team.state).abs() + self.FLOOR
        chosen = weights * team.utilities + self.biases(team.state)
        # The bias is the same in Qhat and Vhat.
        advantages = (weights * (team.utilities - team.greedy_utilities)).detach()
        importance = self.importance(team.state, team.actions)
        mixed = chosen + (importance - 1) * advantages  # [B, T, N]
        return mixed.sum(dim=-1, keepdim=True)

    def importance(self, state: Tensor, actions: Tensor) -> Tensor:
        """The factors ``lambda`` of the advantages.

        Args:
            state: ``[B, T, S]``.
            actions: int64 ``[B, T, N]``.

        Returns:
            Positive numbers, ``[B, T, N]``.
        """
        joint = F.one_hot(actions, self.num_actions).flatten(-2).to(state.dtype)
        both = torch.cat([state, joint], dim=-1)  # [B, T, S + N * A]
        scales = self.keys(state).abs() + self.FLOOR  # [heads, B, T, 1]
        shares = self.agents(state).sigmoid() * self.actions(both).sigmoid()
        return (scales * shares).sum(dim=0)


_MIXERS: dict[str, type[Mixer]] = {
    "none": NoMixer,
    "vdn": SumMixer,
    "qmix": MonotonicMixer,
    "qplex": DuplexMixer,
}


def make_mixer(kind: str, sizes: TeamSizes, config: TeamNetworkConfig) -> Mixer:
    """Makes the mixer that a configuration names.

    Args:
        kind: ``none``, ``vdn``, ``qmix``, ``qplex``, or a user's own :class:`Mixer` as
            ``package.module:Class``, made by ``Class(sizes, **config.mixer_kwargs)``.
        sizes: What the environment fixes.
        config: What the configuration fixes.

    Returns:
        The mixer.

    Raises:
        ValueError: If ``kind`` is unknown or cannot be imported, needs a state that is
            not there, or does not take the arguments or give the shape that it must.
    """
    if ":" in kind:
        mixer_class = import_part(kind, Mixer, "mixer")
    elif kind in _MIXERS:
        mixer_class = _MIXERS[kind]
    else:
        known = ", ".join(_MIXERS)
        raise ValueError(
            f"Unknown mixer {kind!r}; known: {known}, or 'package.module:Class'."
        )
    if mixer_class.needs_state and sizes.state_size == 0:
        raise NeedsStateError("mixer", kind)
    if mixer_class is MonotonicMixer:
        return MonotonicMixer(
            sizes.num_agents,
            sizes.state_size,
            config.mixing_embed_dim,
            config.hypernet_embed_dim,
        )
    if mixer_class is DuplexMixer:
        return DuplexMixer(
            sizes.num_agents,
            sizes.num_actions,
            sizes.state_size,
            config.qplex_heads,
            config.qplex_lambda_layers,
        )
    if kind in _MIXERS:
        return mixer_class()
    return _make_own(kind, mixer_class, sizes, config.mixer_kwargs)


def _make_own(
    kind: str, mixer_class: type, sizes: TeamSizes, kwargs: Mapping[str, Any]
) -> Mixer:
    """Makes a user's mixer and tries it once: a wrong shape would broadcast."""
    try:
        inspect.signature(mixer_class).bind(sizes, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"mixer {kind!r} is called with (sizes, **mixer_kwargs), mixer_kwargs = "
            f"{dict(kwargs)}: {error}."
        ) from error
    mixer: Mixer = mixer_class(sizes, **kwargs)
    zeros = torch.zeros(2, 3, sizes.num_agents)
    state = torch.zeros(2, 3, sizes.state_size)
    with torch.no_grad():
        shape = tuple(mixer(MixerInputs(zeros, state, zeros.long(), zeros)).shape)
    if shape not in ((2, 3, 1), (2, 3, sizes.num_agents)):
        raise ValueError(
            f"mixer {kind!r} must return [B, T, 1] or [B, T, {sizes.num_agents}]; with "
            f"B = 2 and T = 3 it returned {list(shape)}."
        )
    return mixer


def monotone_slopes(mixer: Mixer, team: MixerInputs) -> Tensor:
    """Slope of the team's value in each utility, by autograd; for checks and plots.

    Args:
        mixer: A mixer with one output.
        team: The mixer's inputs.

    Returns:
        ``[B, T, N]``.
    """
    utilities = team.utilities.detach().requires_grad_(True)
    total = mixer(replace(team, utilities=utilities)).sum()
    return torch.autograd.grad(total, utilities)[0]
