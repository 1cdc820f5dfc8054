"""Colours and lines of the project's figures."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which are distinguishable with colour blindness.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", ":", "-.")
# Each of these algorithms has the same colour in every figure.
_OWN_COLORS = {
    "qmix": "#0072B2",
    "rmix": "#D55E00",
    "vdn": "#009E73",
    "rdn": "#CC79A7",
    "dmix": "#E69F00",
    "riskq": "#56B4E9",
    "qplex": "#000000",
}


def curve_colors(labels: Sequence[str]) -> list[str]:
    """Chooses a colour for each curve.

    Args:
        labels: Labels of the curves.

    Returns:
        One colour per label. The first label that begins with the name of an algorithm
        in `_OWN_COLORS` gets that colour. The others get the remaining ones in turn.
    """
    chosen: dict[str, str] = {}
    for label in labels:
        name = re.match(r"\w*", label.lower())
        color = _OWN_COLORS.get(name[0] if name else "")
        if color is not None and color not in chosen.values():
            chosen[label] = color
    free = itertools.cycle([c for c in COLORS if c not in chosen.values()] or COLORS)
    return [chosen.get(label) or next(free) for label in labels]


def plain(text: str) -> str:
    """Escapes dollar signs, which matplotlib would read as a formula.

    Args:
        text: Text of a figure.

    Returns:
        The escaped text.
    """
    return text.replace("$", r"\$")


def open_axes(axes: Axes, grid: Literal["both", "x", "y"] = "both") -> None:
    """Draws a light grid behind the data, and no border at the top and on the right.

    Args:
        axes: Panel of a figure.
        grid: Axis whose ticks have grid lines.
    """
    axes.grid(axis=grid, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
