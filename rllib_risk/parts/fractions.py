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
    """The key for the quantile fractions of fixed atoms."""

    qr_fractions: Literal["midpoint", "right_edge"] = option(
        "midpoint",
        "Quantile fractions of fixed atoms: (2m-1)/(2M) (midpoint) or m/M"
        " (right_edge).",
    )


@dataclass(frozen=True)
class FractionOptions(GridOptions):
    """Keys for the quantile fractions of fixed atoms, or of a lower tail."""

    tail_level: float = option(
        1.0,
        "Fraction of the return distribution's lower tail that the atoms of loss"
        " quantile cover (MA-CQR's xi). At every step the mean of the atoms is then"
        " CVaR at this level. 1: the whole distribution.",
        low=0.0,
        low_open=True,
        high=1.0,
    )


def fractions_of(
    view: View, atoms: Tensor, kind: str, tail_level: float = 1.0
) -> Tensor:
    """Returns the quantile fractions of the atoms of the actions taken.

    Args:
        view: The batch.
        atoms: Atoms of the actions taken, ``[B, T, ., M]``.
        kind: Fractions of fixed atoms, ``midpoint`` or ``right_edge``.
        tail_level: Fraction of the lower tail that fixed atoms cover.

    Returns:
        Sampled fractions ``[B, T, N, M]``, or fixed fractions ``[M]``.
    """
    if view.online.fractions is not None:
        return view.online.fractions
    return tail_level * quantile_fractions(atoms.shape[-1], kind).to(atoms)
