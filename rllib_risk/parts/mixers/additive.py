"""Mixers without parameters: none, and the sum.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``M`` atoms.
"""

from __future__ import annotations

from typing import ClassVar, cast

from torch import Tensor

from rllib_risk.parts.base import NoOptions
from rllib_risk.parts.mixers.base import Form, Mixer, MixerInputs


class NoMixer(Mixer):
    """Independent learners (Tan, 1993): every agent learns from the team's reward."""

    Options = NoOptions
    form: ClassVar[Form] = "none"

    def forward(self, team: MixerInputs) -> Tensor:
        """Returns the utilities unchanged, ``[B, T, N]``."""
        return team.utilities

    def mix_atoms(self, team: MixerInputs) -> Tensor:
        """Returns the atoms unchanged, ``[B, T, N, M]``."""
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
        """Returns sums of atoms of the same fraction, ``[B, T, 1, M]``.

        This is the distribution of the sum if the agents' returns are comonotone.
        """
        return cast("Tensor", team.atoms).sum(dim=-2, keepdim=True)
