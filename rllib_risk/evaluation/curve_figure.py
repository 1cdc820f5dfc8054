"""The figure of learning curves: one panel, or a panel per curve if there are many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from rllib_risk.evaluation.figure_style import curve_colors, open_axes, plain
from rllib_risk.evaluation.results import Group
from rllib_risk.evaluation.tables import AXIS_NAMES
from rllib_risk.ops.statistics import AggregatedCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Above this number of curves, the bands in one panel hide each other.
MAX_CURVES_PER_PANEL = 4
_GREY = "0.8"
_CAPTION = (
    "Line: interquartile mean over seeds. Band: 95 % bootstrap interval. "
    "A run that ended early keeps its last value."
)
_TWO_RUNS = " Two runs are too few for an interval."

Curve = tuple[Group, AggregatedCurve]


def draw_curves(
    curves: Sequence[Curve],
    out: Path | IO[bytes],
    *,
    metric: str,
    x: str,
    title: str | None = None,
    y_min: float | None = None,
    threshold: float | None = None,
) -> None:
    """Draws learning curves into a file.

    With more than :data:`MAX_CURVES_PER_PANEL` curves, each has a panel of its own, in
    which the others are thin grey lines.

    Args:
        curves: Groups of runs with their aggregated curves.
        out: Path of a file, whose suffix sets the format, or a binary file, which
            gets a PNG.
        metric: Result key on the vertical axis.
        x: Result key on the horizontal axis.
        title: Title of the figure.
        y_min: Lower end of the vertical axis.
        threshold: Value of the metric to mark with a horizontal line.
    """
    # The object interface with the Agg canvas needs no display and no pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    end = max(curve.x[-1] for _, curve in curves)
    colors = curve_colors([group.label for group, _ in curves])
    many = len(curves) > MAX_CURVES_PER_PANEL
    columns = (4 if len(curves) > 9 else 3) if many else 1
    rows = -(-len(curves) // columns) if many else 1
    size = (2.4 * columns, 1.9 * rows + 0.5) if many else (7.2, 4.6)
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for panel in panels:
        _set_up(panel, end, y_min, threshold)
    for index, (curve, color) in enumerate(zip(curves, colors, strict=True)):
        if many:
            for other in curves:
                _draw_line(panels[index], other, end, color=_GREY, linewidth=0.7)
            panels[index].set_title(_label(curve), loc="left", fontsize=8)
            panels[index].tick_params(labelsize=7)
        _draw_band(panels[index if many else 0], curve, end, color)
    if many:
        for index, panel in enumerate(panels):
            panel.set_visible(index < len(curves))
            panel.tick_params(labelbottom=index + columns >= len(curves))
    _name_axes(figure, panels[0], many, metric, x)
    if title:
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, weight="bold")
    two = any(curve.num_runs == 2 for _, curve in curves)
    caption = _CAPTION + (_TWO_RUNS if two else "")
    figure.text(0.5, -0.01, caption, fontsize=7, color="0.4", ha="center", va="top")
    figure.savefig(out, bbox_inches="tight")


def _label(curve: Curve) -> str:
    return plain(f"{curve[0].label} ({curve[0].count_text})")


def _set_up(
    panel: Axes, end: float, y_min: float | None, threshold: float | None
) -> None:
    from matplotlib.ticker import EngFormatter

    if threshold is not None:
        panel.axhline(threshold, color="0.55", linewidth=1.0, linestyle=(0, (1, 2)))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panel.set_xlim(left=0, right=end)
    if y_min is not None:
        panel.set_ylim(bottom=y_min)
    open_axes(panel)


def _draw_line(panel: Axes, curve: Curve, end: float, **style: Any) -> None:
    # Solved runs stop early, so extend their curves to the end of the axis.
    xs, ys = curve[1].x, curve[1].center
    panel.plot(np.append(xs, end), np.append(ys, ys[-1]), **style)


def _draw_band(panel: Axes, curve: Curve, end: float, color: str) -> None:
    _draw_line(panel, curve, end, color=color, linewidth=1.8, label=_label(curve))
    values = curve[1]
    if values.num_runs > 1:
        low, high = (np.append(v, v[-1]) for v in (values.low, values.high))
        xs = np.append(values.x, end)
        panel.fill_between(xs, low, high, color=color, alpha=0.18, linewidth=0)


def _name_axes(figure: Figure, panel: Axes, many: bool, metric: str, x: str) -> None:
    names = plain(AXIS_NAMES.get(x, x)), plain(AXIS_NAMES.get(metric, metric))
    if many:
        figure.supxlabel(names[0], fontsize=9)
        figure.supylabel(names[1], fontsize=9)
    else:
        panel.set_xlabel(names[0])
        panel.set_ylabel(names[1])
        panel.legend(frameon=False, fontsize=8.5, loc="best")
