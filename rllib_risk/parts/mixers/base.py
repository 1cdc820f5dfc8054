"""What a mixer is: from the agents' utilities to the team's value.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``S`` state size, ``M`` atoms, ``G``
values of the team (1, or ``N``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.data.sizes import NeedsStateError, TeamSizes
from rllib_risk.ops.quantile import mean_and_shape
from rllib_risk.parts.base import Choice, Part

# How atoms of agents become atoms of the team; see docs/risk.md.
Form = Literal["none", "sum", "weighted", "mean_and_shape", "per_quantile", "own"]


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
            their means, and ``greedy_utilities`` the highest means.
        obs: The agents' observations, ``[B, T, N, D]``; None unless the mixer needs
            them.
    """

    utilities: Tensor
    state: Tensor
    actions: Tensor
    greedy_utilities: Tensor | None = None
    atoms: Tensor | None = None
    obs: Tensor | None = None


@dataclass(frozen=True)
class OwnOptions:
    """What a class without Options of its own takes."""

    mixer_kwargs: dict = option(
        {}, "Arguments of a mixer of your own that declares no Options.", fixed=True
    )


class Mixer(Part, nn.Module):
    """From ``N`` utilities to the team's value.

    Attributes:
        needs_state: Whether an environment without a state must be refused.
        needs_greedy: Whether ``greedy_utilities`` must be there.
        needs_obs: Whether ``obs`` must be there.
        broadcasts: Whether :meth:`forward` also takes utilities ``[B, T, K, N]`` of
            several joint actions with one state ``[B, T, 1, S]``, which is faster than
            a state for each of them. Other inputs are None then.
        form: How :meth:`mix_atoms` mixes distributions; set by the class.
    """

    Options: ClassVar[type] = OwnOptions

    needs_state = False
    needs_greedy = False
    needs_obs = False
    broadcasts = False
    form: ClassVar[Form] = "mean_and_shape"

    def __init__(self, sizes: TeamSizes | None = None, options: Any = None) -> None:
        """Initializes the mixer.

        Args:
            sizes: What the environment fixes.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A class that mixes distributions in a way of its own says in which form."""
        super().__init_subclass__(**kwargs)
        if "mix_atoms" in vars(cls) and "form" not in vars(cls):
            cls.form = "own"

    @classmethod
    def keywords(cls, options: Any) -> dict[str, Any]:
        """See Part; a class without Options of its own gets ``mixer_kwargs``."""
        if cls.Options is OwnOptions:
            return dict(options.mixer_kwargs)
        return {"options": options}

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

        Unless a class defines it: :func:`mean_and_shape`, with :meth:`forward` of the
        means.

        Args:
            team: Atoms and what they are atoms of.

        Returns:
            ``[B, T, G, M]``, ``G`` as in :meth:`forward`.
        """
        return mean_and_shape(self(team), cast("Tensor", team.atoms))


def make_mixer(choice: Choice, sizes: TeamSizes) -> Mixer:
    """The mixer that a configuration names.

    Args:
        choice: The mixer and its options.
        sizes: What the environment fixes.

    Returns:
        The mixer.

    Raises:
        ValueError: If it needs a state that is not there, or a mixer of the user's own
            does not take the arguments or give the shape that it must.
    """
    if choice.part.needs_state and sizes.state_size == 0:
        raise NeedsStateError("mixer", choice.name)
    mixer: Mixer = choice.make(sizes=sizes)
    if choice.is_own:
        _try(choice, mixer, sizes)
    return mixer


@torch.no_grad()
def _try(choice: Choice, mixer: Mixer, sizes: TeamSizes) -> None:
    """Mixes zeros with a mixer of the user's own: a wrong shape would broadcast."""
    n, atoms = sizes.num_agents, torch.zeros(2, 3, sizes.num_agents, 4)
    state, zeros = torch.zeros(2, 3, sizes.state_size), atoms[..., 0]
    obs = torch.zeros(2, 3, n, sizes.obs_size)
    team = MixerInputs(zeros, state, zeros.long(), zeros, obs=obs)
    choice.check_shape(mixer(team), (2, 3, 1), (2, 3, n))
    if mixer.form == "own":
        team.atoms = atoms
        mixed = mixer.mix_atoms(team)
        choice.check_shape(mixed, (2, 3, 1, 4), (2, 3, n, 4), of="mix_atoms")
