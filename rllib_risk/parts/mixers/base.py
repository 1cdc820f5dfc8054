"""Base class of mixers, which map the agents' utilities to the team's value.

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
from rllib_risk.parts.base import Choice, NoOptions, Part

# How a mixer combines the agents' atoms to atoms of the team; see docs/risk.md.
Form = Literal["none", "sum", "weighted", "mean_and_shape", "per_quantile", "own"]


@dataclass
class MixerInputs:
    """The inputs of a mixer.

    Attributes:
        utilities: Risk-adjusted utility of one action per agent, with gradients,
            ``[B, T, N]``.
        state: Global states, ``[B, T, S]``.
        actions: The actions of these utilities, int64 ``[B, T, N]``.
        greedy_utilities: Highest utility of each agent among its available actions,
            without gradient, ``[B, T, N]``. None unless the mixer needs it.
        atoms: Return atoms of the actions, at the same fractions for all agents,
            ``[B, T, N, M]``; only for :meth:`Mixer.mix_atoms`. ``utilities`` are then
            the means of the atoms, and ``greedy_utilities`` the highest means.
        obs: The agents' observations, ``[B, T, N, D]``. None unless the mixer needs
            them.
    """

    utilities: Tensor
    state: Tensor
    actions: Tensor
    greedy_utilities: Tensor | None = None
    atoms: Tensor | None = None
    obs: Tensor | None = None


@dataclass(frozen=True)
class OwnOptions(NoOptions):
    """Options of a custom mixer that declares none."""

    mixer_kwargs: dict = option(
        {}, "Arguments of a custom mixer that declares no Options.", fixed=True
    )


class Mixer(Part, nn.Module):
    """Maps ``N`` utilities to the team's value.

    Attributes:
        needs_state: Whether the mixer needs a global state.
        needs_greedy: Whether the mixer needs ``greedy_utilities``.
        needs_obs: Whether the mixer needs ``obs``.
        broadcasts: Whether :meth:`forward` also takes utilities ``[B, T, K, N]`` of
            several joint actions with one state ``[B, T, 1, S]``. This is faster than
            one state per joint action. The optional inputs are then None.
        form: How :meth:`mix_atoms` mixes distributions.
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
            sizes: Sizes of the team and its observations.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Sets :attr:`form` to ``own`` if a subclass defines only :meth:`mix_atoms`."""
        super().__init_subclass__(**kwargs)
        if "mix_atoms" in vars(cls) and "form" not in vars(cls):
            cls.form = "own"

    @classmethod
    def keywords(cls, options: Any) -> dict[str, Any]:
        """See :meth:`Part.keywords`. A class without Options gets ``mixer_kwargs``."""
        if cls.Options is OwnOptions:
            return dict(options.mixer_kwargs)
        return {"options": options}

    def forward(self, team: MixerInputs) -> Tensor:
        """Mixes utilities.

        Args:
            team: The inputs.

        Returns:
            Values ``[B, T, 1]``, or ``[B, T, N]`` if agents learn independently.
        """
        raise NotImplementedError

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Mixes distributions, for losses that fit the team's distribution.

        By default it is :func:`mean_and_shape` with :meth:`forward` of the means.

        Args:
            team: The inputs, with atoms.

        Returns:
            Atoms ``[B, T, G, M]``, with ``G`` as in :meth:`forward`.
        """
        return mean_and_shape(self(team), cast("Tensor", team.atoms))


def make_mixer(choice: Choice, sizes: TeamSizes) -> Mixer:
    """Creates the mixer that a configuration names.

    Args:
        choice: The mixer and its options.
        sizes: Sizes of the team and its observations.

    Returns:
        The mixer.

    Raises:
        ValueError: If the mixer needs a global state and there is none, or a custom
            mixer does not take the arguments or returns a wrong shape.
    """
    if choice.part.needs_state and sizes.state_size == 0:
        raise NeedsStateError("mixer", choice.name)
    mixer: Mixer = choice.make(sizes=sizes)
    if choice.is_own:
        _try(choice, mixer, sizes)
    return mixer


@torch.no_grad()
def _try(choice: Choice, mixer: Mixer, sizes: TeamSizes) -> None:
    """Checks the shapes of a custom mixer on zeros; a wrong one could broadcast."""
    n, atoms = sizes.num_agents, torch.zeros(2, 3, sizes.num_agents, 4)
    state, zeros = torch.zeros(2, 3, sizes.state_size), atoms[..., 0]
    obs = torch.zeros(2, 3, n, sizes.obs_size)
    team = MixerInputs(zeros, state, zeros.long(), zeros, obs=obs)
    choice.check_shape(mixer(team), (2, 3, 1), (2, 3, n))
    if mixer.form == "own":
        team.atoms = atoms
        mixed = mixer.mix_atoms(team)
        choice.check_shape(mixed, (2, 3, 1, 4), (2, 3, n, 4), of="mix_atoms")
