"""Mixers without parameters: none, and the sum.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``M`` atoms.
"""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor

from rllib_risk.parts.base import NoOptions
from rllib_risk.parts.mixers.base import Form, Mixer, MixerInputs


class NoMixer(Mixer):
    """Independent learners (Tan, 1993): every agent has the team's reward to itself."""

    Options = NoOptions
    form: ClassVar[Form] = "none"

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the utilities as they are, ``[B, T, N]``."""
        return team.utilities

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns the atoms as they are, ``[B, T, N, M]``."""
        return cast("Tensor", team.atoms)


class SumMixer(Mixer):
    """Value decomposition (Sunehag et al., 2018): ``Q_tot = sum_i Q_i``."""

    Options = NoOptions
    broadcasts = True
    form: ClassVar[Form] = "sum"

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the sum over agents, ``[B, T, 1]``."""
        return team.utilities.sum(dim=-1, keepdim=True)

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns sums of equal fractions, ``[B, T, 1, M]``.

        That is the sum's distribution if the agents' worst cases come together.
        """
        return cast("Tensor", team.atoms).sum(dim=-2, keepdim=True)
