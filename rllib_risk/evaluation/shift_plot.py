"""The figure of an evaluation under shift: heat maps, or lines over one axis."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.evaluation.figure_style import COLORS, LINES, open_axes

if TYPE_CHECKING:
    from rllib_risk.config.shift_grid import ShiftGrid
    from rllib_risk.evaluation.shift import FloatArray, ShiftResults

# Inches of one cell of a heat map.
_CELL_WIDTH, _CELL_HEIGHT = 0.78, 0.36
_PANELS_PER_ROW = 3


def draw_shift(results: ShiftResults, out: Path) -> None:
    """Draws one heat map per policy, or one line per policy if there is one axis.

    The second axis of the grid is horizontal; all other axes are vertical. All policies
    share one colour scale. It spans the values of the trained policies, because the low
    values of a random policy would hide their differences.

    Args:
        results: The results to draw.
        out: File to write.
    """
    # The object interface with the Agg canvas needs no display and no pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    draw = _draw_lines if len(results.grid.axes) == 1 else _draw_maps
    figure = Figure(dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    draw(results, figure)
    figure.suptitle(
        f"{results.grid.name}: {results.metric} on {results.env}",
        fontsize=11,
        fontweight="bold",
    )
    caption = f"Mean of {results.num_episodes} episodes per cell"
    if results.grid.nominal is not None:
        frame = "line" if len(results.grid.axes) == 1 else "frame"
        caption += f"; {frame}: the nominal cell"
    figure.supxlabel(f"{caption}.", fontsize=7.5, color="0.4")
    figure.savefig(out)


def map_layout(grid: ShiftGrid) -> tuple[list[str], list[str], np.ndarray]:
    """Returns the layout of a heat map of a grid with two or more axes.

    Args:
        grid: The grid.

    Returns:
        Names of the rows, names of the columns, and the cell index at each position,
        int64 ``[rows, columns]``.
    """
    first, second, *rest = grid.axes
    index = np.arange(len(grid.cells)).reshape([len(a.labels) for a in grid.axes])
    # the second axis last, the others in their order
    index = np.moveaxis(index, 1, -1).reshape(-1, len(second.labels))
    by_row = itertools.product(first.labels, *(axis.labels for axis in rest))
    return [", ".join(labels) for labels in by_row], list(second.labels), index


def color_range(results: ShiftResults) -> tuple[float, float]:
    """Returns the lowest and the highest mean of the trained policies.

    If both are equal, the range is widened.
    """
    means = np.concatenate([p.means for p in results.policies if not p.reference])
    low, high = float(means.min()), float(means.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _draw_maps(results: ShiftResults, figure: Any) -> None:
    from matplotlib.patches import Rectangle

    grid = results.grid
    rows, columns, index = map_layout(grid)
    number = len(results.policies)
    across = 2 if number == 4 else min(_PANELS_PER_ROW, number)
    down = math.ceil(number / across)
    margin = 0.6 + 0.07 * max(map(len, rows))
    width = across * (len(columns) * _CELL_WIDTH + 0.3) + margin + 1.0
    height = down * (len(rows) * _CELL_HEIGHT + 0.9) + 0.8
    figure.set_size_inches(max(width, 4.5), max(height, 2.6))
    low, high = color_range(results)
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    image = None
    for place, policy in itertools.zip_longest(axes.flat, results.policies):
        if policy is None:
            place.set_visible(False)
            continue
        values = policy.means[index]  # [rows, columns]
        image = place.imshow(values, vmin=low, vmax=high, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            # the lower half of the scale is dark
            color = "white" if value < (low + high) / 2 else "black"
            text = f"{value:.3g}"
            place.text(
                column, row, text, ha="center", va="center", color=color, fontsize=8
            )
        if grid.nominal is not None:
            ((row, column),) = np.argwhere(index == grid.nominal)
            place.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    fill=False,
                    edgecolor=COLORS[1],
                    linewidth=2.5,
                    clip_on=False,
                )
            )
        place.set_title(policy.title, fontsize=9.5)
        place.set_xticks(range(len(columns)), columns, fontsize=8)
        place.set_yticks(range(len(rows)), rows, fontsize=8)
        place.tick_params(length=0)
        place.spines[:].set_visible(False)
    for place in axes.flat[max(number - across, 0) : number]:  # no panel below these
        place.set_xlabel(grid.axes[1].name, fontsize=9)
        place.tick_params(labelbottom=True)
    names = [axis.name for axis in (grid.axes[0], *grid.axes[2:])]
    for place in axes[:, 0]:
        place.set_ylabel(", ".join(names), fontsize=9)
    bar = figure.colorbar(
        image, ax=axes, extend=_extend(results, low, high), pad=0.02, fraction=0.05
    )
    bar.ax.tick_params(labelsize=8)


def _extend(results: ShiftResults, low: float, high: float) -> str:
    """Returns the ends of the colour scale that some values exceed."""
    means: FloatArray = np.concatenate([p.means for p in results.policies])
    below, above = bool(means.min() < low), bool(means.max() > high)
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[
        (int(below), int(above))
    ]


def _draw_lines(results: ShiftResults, figure: Any) -> None:
    grid = results.grid
    (axis,) = grid.axes
    figure.set_size_inches(max(5.6, 0.7 * len(axis.labels) + 2.5), 4.2)
    place = figure.add_subplot()
    xs = np.arange(len(axis.labels))
    if grid.nominal is not None:
        place.axvline(grid.nominal, color="0.75", linewidth=6, alpha=0.5, zorder=0)
    for number, policy in enumerate(results.policies):
        low, high = policy.intervals
        means = policy.means
        color = "0.45" if policy.reference else COLORS[number % len(COLORS)]
        style = LINES[number % len(LINES)] if policy.reference else "-"
        place.errorbar(
            xs,
            means,
            # rounding may put a mean slightly outside its interval
            yerr=np.maximum([means - low, high - means], 0.0),
            fmt=f"o{style}",
            color=color,
            markersize=4,
            linewidth=1.4,
            capsize=3,
            label=policy.title,
        )
    place.set_xticks(xs, axis.labels)
    place.set_xlabel(axis.name)
    place.set_ylabel(results.metric)
    open_axes(place, "y")
    place.legend(frameon=False, fontsize=8.5)
