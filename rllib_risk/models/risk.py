"""Risk measures as parts of the network: from return atoms to one utility per action.

Letters: ``N`` agents, ``A`` actions, ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from rllib_risk.ops.risk import cvar_weights, sort_atoms, straight_through_level


class Mean(nn.Module):
    """The risk-neutral measure: the mean of the atoms.

    Attributes:
        levels: The risk levels that can be reported, as floats.
    """

    levels: tuple[float, ...] = (1.0,)

    def forward(self, atoms: Tensor, level_logits: Tensor | None) -> Tensor:
        """Utility of the action whose atoms are given, with gradients.

        Args:
            atoms: ``[..., M]``.
            level_logits: Ignored here; ``[..., K]`` or None.

        Returns:
            ``[...]``.
        """
        return atoms.squeeze(-1) if atoms.shape[-1] == 1 else atoms.mean(dim=-1)

    @torch.no_grad()
    def of_all_actions(self, atoms: Tensor, level_logits: Tensor | None) -> Tensor:
        """Utilities of all actions, without gradients: for acting and for the argmax.

        Args:
            atoms: ``[..., A, M]``.
            level_logits: ``[..., K]`` or None.

        Returns:
            ``[..., A]``.
        """
        return Mean.forward(self, atoms, None)


class CVaR(Mean):
    """CVaR at a static level, or at the level that the predictor finds most likely.

    RMIX, Eq. 2 to 6. The weights of the sorted atoms are one row per level.
    """

    weights: Tensor

    def __init__(
        self,
        levels: Sequence[float | str | Fraction],
        num_atoms: int,
        *,
        norm: str,
        mode: str,
        straight_through: bool,
    ) -> None:
        """Initializes the measure.

        Args:
            levels: One static level, or the ``K`` levels to predict from.
            num_atoms: ``M``.
            norm: See :func:`rllib_risk.ops.risk.cvar_weights`.
            mode: See :func:`rllib_risk.ops.risk.cvar_weights`.
            straight_through: Whether the predictor gets a gradient.
        """
        super().__init__()
        self.levels = tuple(float(Fraction(str(level))) for level in levels)
        self.straight_through = straight_through
        weights = cvar_weights(levels, num_atoms, norm=norm, mode=mode)
        # A constant, not a parameter: it does not belong in a checkpoint.
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, atoms: Tensor, level_logits: Tensor | None) -> Tensor:
        """See :meth:`Mean.forward`."""
        ascending = sort_atoms(atoms)
        if level_logits is None:
            return ascending @ self.weights[0]
        if self.straight_through and torch.is_grad_enabled():
            level_values = ascending @ self.weights.T  # [..., K]
            return straight_through_level(level_values, level_logits.softmax(dim=-1))
        chosen = self.weights[level_logits.argmax(dim=-1)]  # [..., M]
        return (ascending * chosen).sum(dim=-1)

    @torch.no_grad()
    def of_all_actions(self, atoms: Tensor, level_logits: Tensor | None) -> Tensor:
        """See :meth:`Mean.of_all_actions`."""
        ascending = sort_atoms(atoms)
        if level_logits is None:
            return ascending @ self.weights[0]
        chosen = self.weights[level_logits.argmax(dim=-1)]  # [..., M]
        return (ascending @ chosen.unsqueeze(-1)).squeeze(-1)
