"""Quantile fractions of a batch's atoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.quantile import quantile_fractions
from rllib_risk.parts.view import View


@dataclass(frozen=True)
class GridOptions:
    """Which fractions fixed atoms have."""

    qr_fractions: Literal["midpoint", "right_edge"] = option(
        "midpoint", "Quantile fractions (2m-1)/(2M), or m/M."
    )


@dataclass(frozen=True)
class FractionOptions(GridOptions):
    """The same of a tail."""

    tail_level: float = option(
        1.0,
        "Share of the return's lower tail whose quantiles the atoms of loss quantile"
        " are (MA-CQR's xi); their mean is then CVaR at this level, step by step.",
        low=0.0,
        low_open=True,
        high=1.0,
    )


def fractions_of(
    view: View, atoms: Tensor, kind: str, tail_level: float = 1.0
) -> Tensor:
    """Fractions of the atoms of the actions taken.

    Args:
        view: The batch.
        atoms: These atoms, ``[B, T, ., M]``.
        kind: ``midpoint`` or ``right_edge``, of fixed atoms.
        tail_level: Share of the lower tail that fixed atoms describe.

    Returns:
        Sampled ones ``[B, T, N, M]``, or fixed ones ``[M]``.
    """
    if view.online.fractions is not None:
        return view.online.fractions
    return tail_level * quantile_fractions(atoms.shape[-1], kind).to(atoms)
