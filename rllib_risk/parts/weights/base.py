"""What a TD weighting is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.view import View


class TDWeighting(Part):
    """Which errors weigh less than others.

    A weighting of your own defines :meth:`weights`.
    """

    def weights(self, errors: Tensor, view: View) -> Tensor | None:
        """The weight of each error.

        Args:
            errors: Target minus value, without gradient, ``[B, T, G]``; where the loss
                fits distributions the difference of their means.
            view: The batch.

        Returns:
            ``[B, T, G]``; None: all errors weigh the same.
        """
        raise NotImplementedError(f"{type(self).__name__} must define weights().")

    def weigh(self, losses: Tensor, errors: Tensor, view: View) -> Tensor:
        """Multiplies losses by their errors' weights.

        Args:
            losses: ``[B, T, G]``.
            errors: See :meth:`weights`.
            view: The batch.

        Returns:
            ``[B, T, G]``.
        """
        weights = self.weights(errors, view)
        if weights is None:
            return losses
        if view.wants_stats:
            view.log("td_weight_mean", view.mean(weights))
        return weights * losses


class Even(TDWeighting):
    """All errors weigh the same."""

    def weights(self, errors: Tensor, view: View) -> None:
        """See :meth:`TDWeighting.weights`."""


class LesserWeight(TDWeighting):
    """What the weightings share that have a lesser weight."""

    @dataclass(frozen=True)
    class Options:
        td_weighting_alpha: float | list = option(
            0.1,
            "The lesser weight; a number, or points [[env_steps, value], ...].",
            low=0.0,
            high=1.0,
        )

    options: Any

    def lesser(self, view: View) -> float:
        """The lesser weight now."""
        return view.now(self.options.td_weighting_alpha)
