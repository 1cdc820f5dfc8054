"""Distortions of probability: Wang, CPW and power.

IQN (Dabney et al., 2018), Section 3; see :mod:`rllib_risk.ops.risk`. Letters: ``M``
atoms.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rllib_risk.ops.risk import (
    DISTORTION_PARAMETERS,
    distort_fractions,
    distortion_weights,
)
from rllib_risk.parts.risk.base import ParameterOptions
from rllib_risk.parts.risk.sorted_atoms import SortedAtoms


class Distorted(SortedAtoms):
    """A distortion of probability; see :func:`rllib_risk.ops.risk.distort_fractions`.

    Attributes:
        kind: ``wang``, ``cpw`` or ``power``.
        parameter: Parameter ``eta`` of the distortion.
    """

    Options = ParameterOptions
    kind: ClassVar[str]

    def __init__(self, num_atoms: int, options: ParameterOptions | None = None) -> None:
        """Initializes the measure; see :class:`~.base.RiskMeasure`.

        Raises:
            ValueError: If the parameter is out of range.
        """
        given = None if options is None else options.risk_parameter
        eta = DISTORTION_PARAMETERS[self.kind] if given is None else given
        weights = distortion_weights(self.kind, eta, num_atoms)
        super().__init__(weights.unsqueeze(0), options)
        self.parameter = eta

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`~.base.RiskMeasure.distort`."""
        return distort_fractions(self.kind, fractions, self.parameter)


class Wang(Distorted):
    """The distortion of Wang (2000): ``Phi(Phi^-1(tau) + eta)``."""

    kind = form = "wang"


class Cpw(Distorted):
    """Cumulative probability weighting (CPW) of prospect theory (1992)."""

    kind = form = "cpw"


class Power(Distorted):
    """The power distortion of IQN."""

    kind = form = "power"
