"""Figure of one episode: rewards, risk levels, and return atoms at chosen steps.

The layout follows figures 11, 12 and 16 of RMIX (Qiu et al., NeurIPS 2021).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.evaluation.figure_style import COLORS

if TYPE_CHECKING:
    from rllib_risk.evaluation.episode_trace import EpisodeTrace

# More heat maps in one row are not readable.
MAX_STEPS = 6
_MAP_WIDTH, _ROW_HEIGHT = 2.7, 0.22
_MAX_HEIGHT = 6.0


def default_steps(length: int, count: int = 4) -> list[int]:
    """Returns steps evenly spread over an episode, with its first and last step."""
    return sorted(set(np.linspace(0, length - 1, count).round().astype(int).tolist()))


def draw_episode(
    trace: EpisodeTrace, out: Path, agent: int, steps: Sequence[int], title: str
) -> None:
    """Draws an episode.

    From top to bottom the figure shows the team's reward at every step, every agent's
    risk level, and the atoms of one agent at each chosen step. Atoms have one row per
    action, with the worst atom on the left. A mark shows the action taken. Actions that
    were not available are white. Atoms with zero weight at the agent's risk level are
    pale.

    Args:
        trace: The episode.
        out: File to write.
        agent: Index of the agent whose atoms are drawn.
        steps: Steps whose atoms are drawn.
        title: Title of the figure.
    """
    # The object interface with the Agg canvas needs no display and no pyplot state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = trace.atoms.shape[2]
    height = 3.4 + np.clip(rows * _ROW_HEIGHT, 1.6, _MAX_HEIGHT)
    figure = Figure(
        figsize=(max(6.5, _MAP_WIDTH * len(steps)), height),
        dpi=160,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.4, height - 3.4])
    upper, lower = parts
    over_time = upper.subplots(2, 1, sharex=True)
    _draw_rewards(over_time[0], trace, steps)
    _draw_levels(over_time[1], trace, steps)
    _draw_maps(lower, trace, agent, steps)
    figure.suptitle(title, fontsize=10, fontweight="bold")
    figure.savefig(out)


def write_episode(trace: EpisodeTrace, out: Path) -> None:
    """Writes the numbers of an episode: one row per step and agent.

    Args:
        trace: The episode.
        out: The .csv file.
    """
    header = ("step", "agent", "action", "reward", "risk_level", "value", "mean")
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for step, reward in enumerate(trace.rewards.tolist()):
            for i, name in enumerate(trace.agents):
                action = int(trace.actions[step, i])
                numbers = (
                    reward,
                    trace.risk_levels[step, i],
                    trace.values[step, i, action],
                    trace.atoms[step, i, action].mean(),
                )
                writer.writerow([step, name, action, *(f"{x:.6g}" for x in numbers)])


def _draw_rewards(axes: Any, trace: EpisodeTrace, steps: Sequence[int]) -> None:
    axes.bar(np.arange(len(trace.rewards)), trace.rewards, color="0.45", width=0.8)
    axes.set_ylabel("reward", fontsize=8)
    _mark(axes, steps)


def _draw_levels(axes: Any, trace: EpisodeTrace, steps: Sequence[int]) -> None:
    time = np.arange(len(trace.rewards))
    for i, name in enumerate(trace.agents):
        axes.step(
            time,
            trace.risk_levels[:, i],
            where="mid",
            color=COLORS[i % len(COLORS)],
            linewidth=1.3,
            label=name,
        )
    axes.set_ylim(0.0, 1.05)
    axes.set_ylabel("risk level", fontsize=8)
    axes.set_xlabel("step", fontsize=8)
    # Outside of the axes, because the lines may be anywhere inside.
    axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    _mark(axes, steps)


def _mark(axes: Any, steps: Sequence[int]) -> None:
    for step in steps:
        axes.axvline(step, color="0.75", linewidth=0.8, linestyle=":", zorder=0)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_maps(
    figure: Any, trace: EpisodeTrace, agent: int, steps: Sequence[int]
) -> None:
    shown = np.where(trace.action_mask[..., None], trace.atoms, np.nan)[steps, agent]
    low, high = np.nanmin(shown), np.nanmax(shown)
    panels = figure.subplots(1, len(steps), sharey=True, squeeze=False)[0]
    image = None
    for axes, step, atoms in zip(panels, steps, shown, strict=True):
        count = atoms.shape[1]
        image = axes.imshow(
            atoms,
            aspect="auto",
            cmap="viridis",
            vmin=low,
            vmax=high,
            extent=(0, count, len(atoms) - 0.5, -0.5),
            interpolation="nearest",
        )
        if trace.weights is not None:
            for left in np.flatnonzero(trace.weights[step, agent] == 0).tolist():
                axes.axvspan(left, left + 1, color="white", alpha=0.65, linewidth=0)
        action = int(trace.actions[step, agent])
        axes.plot(-0.02 * count, action, marker=">", color="#c0392b", clip_on=False)
        level = trace.risk_levels[step, agent]
        axes.set_title(f"step {step}, level {level:g}", fontsize=8)
        axes.set_xlabel("atom, worst first", fontsize=7)
        axes.set_xlim(0, count)
        axes.tick_params(labelsize=6)
    panels[0].set_ylabel(f"action of {trace.agents[agent]}", fontsize=8)
    if image is not None:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.9)
        bar.set_label("return", fontsize=7)
        bar.ax.tick_params(labelsize=6)
