"""The figure of ``rllib plot frontier``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rllib_risk.evaluation.figure_style import COLORS, open_axes, plain
from rllib_risk.evaluation.frontier_report import FrontierResults
from rllib_risk.evaluation.frontier_runs import Estimate

_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_PANELS = (
    "CVaR of the return",
    "mean return (line: with best CVaR)",
    "nested CVaR",
)


def draw_frontier(results: FrontierResults, out: Path) -> None:
    """Draws CVaR, mean and nested CVaR over the risk level.

    Black lines show the best possible values. In the middle panel the line is the mean
    of the policy with the best CVaR. Marks show the teams, with an interval if the
    numbers are sampled.

    Args:
        results: The results to draw.
        out: File to write.
    """
    # The object interface with the Agg canvas needs no display and no pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    nested = bool(results.best) or any(team.exact for team in results.teams)
    titles = _PANELS if nested else _PANELS[:2]
    figure = Figure(figsize=(3.3 * len(titles), 3.9), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(titles), sharex=True)
    xs = np.arange(len(results.alphas))
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=9.5)
        panel.set_xticks(xs, [f"{alpha:g}" for alpha in results.alphas])
        panel.set_xlabel("risk level alpha", fontsize=9)
        open_axes(panel, "y")
    if results.best:
        lines = zip(*((p.cvar, p.mean, p.nested) for p in results.best), strict=True)
        for panel, values in zip(panels, lines, strict=True):
            panel.plot(xs, values, ".-", color="black", linewidth=1.6, label="best")
    for index, team in enumerate(results.teams):
        # Shift the marks, so that teams with equal values stay visible.
        shift = 0.09 * (index - (len(results.teams) - 1) / 2)
        style = {
            "color": COLORS[index % (len(COLORS) - 1)],
            "marker": _MARKS[index % len(_MARKS)],
            "label": plain(team.label),
        }
        of_panels = (team.cvar, team.mean, team.nested)
        for panel, estimates in zip(panels, of_panels, strict=False):
            if estimates is not None:
                _mark(panel, xs + shift, estimates, style)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    figure.suptitle(plain(results.title), fontsize=10, fontweight="bold")
    figure.savefig(out)


def _mark(
    panel: Any, xs: np.ndarray, estimates: Sequence[Estimate], style: dict[str, Any]
) -> None:
    """Draws one team in one panel."""
    values = np.array([e.value for e in estimates])
    ends = np.array([[e.low for e in estimates], [e.high for e in estimates]])
    # rounding may put a value slightly outside its interval
    errors = np.maximum([values - ends[0], ends[1] - values], 0.0)
    panel.errorbar(
        xs, values, yerr=errors, linestyle="none", markersize=5, capsize=2, **style
    )
