"""The mean of the atoms, and the mean minus a multiple of the variance.

Letters: ``M`` atoms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step
from rllib_risk.ops.risk import mean_variance
from rllib_risk.parts.base import NoOptions
from rllib_risk.parts.risk.base import ParameterOptions, RiskMeasure


class Mean(RiskMeasure):
    """The risk-neutral measure: the mean of the atoms."""

    Options = NoOptions
    form: ClassVar[str] = "mean"

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`. The mean also works with a single atom."""
        yield from ()

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        return self.one_step(TORCH)(atoms, level_logits, None)

    def one_step(self, xp: Namespace, sampled: bool = False) -> Step:
        """See :meth:`RiskMeasure.one_step`."""

        def mean(atoms: Rows, logits: Rows | None, index: Rows | None) -> Rows:
            # For one atom, NumPy's mean takes longer than a layer of the network.
            return atoms[..., 0] if atoms.shape[-1] == 1 else atoms.mean(-1)

        return mean

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.distort`."""
        return fractions


class MeanVariance(RiskMeasure):
    """Mean minus a multiple of the variance; see :func:`.ops.risk.mean_variance`."""

    Options = ParameterOptions
    form: ClassVar[str] = "mean_variance"
    # Its unit is 1 / return, so no default suits every environment.
    DEFAULT_PENALTY = 0.1

    def __init__(self, num_atoms: int, options: ParameterOptions | None = None) -> None:
        """Initializes the measure; see :class:`RiskMeasure`.

        Raises:
            ValueError: If the penalty is negative.
        """
        super().__init__(num_atoms, options)
        given = self.options.risk_parameter
        self.penalty = self.DEFAULT_PENALTY if given is None else given
        mean_variance(torch.zeros(1), self.penalty)  # raises if it is negative

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        return mean_variance(atoms, self.penalty)

    def one_step(self, xp: Namespace, sampled: bool = False) -> Step:
        """See :meth:`RiskMeasure.one_step`."""

        def utilities(atoms: Rows, logits: Rows | None, index: Rows | None) -> Rows:
            mean = xp.mean(atoms)
            distance = atoms - mean[..., None]
            return mean - self.penalty * xp.mean(distance * distance)

        return utilities

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.distort`."""
        return fractions

    def of_samples(self, atoms: Tensor) -> Tensor:
        """See :meth:`RiskMeasure.of_samples`."""
        return mean_variance(atoms, self.penalty)
