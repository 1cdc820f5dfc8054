"""Base classes of TD weightings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.view import View


class TDWeighting(Part):
    """Weights of TD errors.

    A custom weighting defines :meth:`weights`.
    """

    def weights(self, errors: Tensor, view: View) -> Tensor | None:
        """Computes the weight of each error.

        Args:
            errors: Target minus value, without gradient, ``[B, T, G]``. If the loss
                fits distributions, the difference of their means.
            view: The batch.

        Returns:
            Weights ``[B, T, G]``. None: all errors have weight 1.
        """
        raise NotImplementedError(f"{type(self).__name__} must define weights().")

    def weigh(self, losses: Tensor, errors: Tensor, view: View) -> Tensor:
        """Multiplies losses by the weights of their errors.

        Args:
            losses: Losses ``[B, T, G]``.
            errors: See :meth:`weights`.
            view: The batch.

        Returns:
            Weighted losses ``[B, T, G]``.
        """
        weights = self.weights(errors, view)
        if weights is None:
            return losses
        if view.wants_stats:
            view.log("td_weight_mean", view.mean(weights))
        return weights * losses


class Even(TDWeighting):
    """All TD errors have weight 1."""

    def weights(self, errors: Tensor, view: View) -> None:
        """See :meth:`TDWeighting.weights`."""


class LesserWeight(TDWeighting):
    """Base class of weightings that give some errors a smaller weight."""

    @dataclass(frozen=True)
    class Options:
        td_weighting_alpha: float | list = option(
            0.1,
            "Weight of the TD errors that td_weighting selects; other errors have"
            " weight 1. A number, or points [[env_steps, value], ...].",
            low=0.0,
            high=1.0,
        )

    options: Any

    def lesser(self, view: View) -> float:
        """Returns the current value of the smaller weight."""
        return view.now(self.options.td_weighting_alpha)
