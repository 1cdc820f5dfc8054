"""Base class of risk measures that are weighted sums of the sorted atoms.

Letters: ``A`` actions, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rllib_risk.networks.arrays import TORCH, Namespace, Rows, Step
from rllib_risk.ops.risk import sort_atoms, straight_through_level
from rllib_risk.parts.risk.base import RiskMeasure


class SortedAtoms(RiskMeasure):
    """A weighted sum of the ascending atoms, with one row of weights per level.

    Attributes:
        weights: Weights of the ascending atoms, ``[K, M]``.
        straight_through: Whether the level predictor gets a gradient.
    """

    weights: Tensor
    straight_through: bool = False

    def __init__(self, weights: Tensor, options: Any = None) -> None:
        """Initializes the measure.

        Args:
            weights: Weights of the ascending atoms, ``[K, M]``.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(weights.shape[-1], options)
        # A constant, so it is not stored in checkpoints.
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """See :meth:`RiskMeasure.forward`."""
        ascending = sort_atoms(atoms)
        if level_logits is None:
            return ascending @ self.weights[0]
        if self.straight_through and torch.is_grad_enabled():
            level_values = ascending @ self.weights.T  # [..., K]
            return straight_through_level(level_values, level_logits.softmax(dim=-1))
        chosen = self.weights[level_logits.argmax(dim=-1)]  # [..., M]
        return (ascending * chosen).sum(dim=-1)

    @torch.no_grad()
    def of_all_actions(
        self, atoms: Tensor, level_logits: Tensor | None = None
    ) -> Tensor:
        """See :meth:`RiskMeasure.of_all_actions`."""
        index = None if level_logits is None else level_logits.argmax(dim=-1)
        return self.one_step(TORCH)(atoms, level_logits, index)

    def one_step(self, xp: Namespace, sampled: bool = False) -> Step:
        """See :meth:`RiskMeasure.one_step`."""
        if sampled:
            return super().one_step(xp, sampled)
        weights = xp.constant(self.weights)

        def utilities(atoms: Rows, logits: Rows | None, index: Rows | None) -> Rows:
            ascending = xp.sort(atoms)
            if index is None:
                return ascending @ weights[0]
            return (ascending @ weights[index][..., None])[..., 0]

        return utilities
