"""Draws a day of the HVAC env: zone temperatures, outdoor temperature, power."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

WIDTH, HEIGHT = 960, 640  # pixels; many video encoders need multiples of 16
_DPI = 100
_STEP_HOURS = 300 / 3600

# Edges of the panels and height of the headline, as shares of the picture.
_LEFT, _RIGHT, _BOTTOM, _TOP, _HEADLINE = 0.08, 0.795, 0.075, 0.915, 0.945

# One colour per zone; most colour-blind readers can tell them apart.
_COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#6A3D9A",
    "#8C6D31",
    "#17A398",
    "#B22222",
)
# The colour of all zones if there are more zones than colours.
_ONE_OF_MANY = "#8FB3D3"
_MEAN = "#12395B"
_OUTDOOR = "#6B7280"
_TARGET: dict[str, Any] = {"color": "0.13", "linewidth": 1.4, "linestyle": (0, (5, 3))}
_LONGEST_NAME = 18  # letters that fit beside the panels

_SMALLEST_SPAN = 2.0  # deg C on either side of the target
_GRID = 2.0  # deg C; the temperature axes grow by whole multiples of it


def draw(
    temperatures: np.ndarray,
    outdoor: np.ndarray,
    power: np.ndarray,
    target: float,
    steps: int,
    zones: tuple[str, ...],
    title: str,
) -> np.ndarray:
    """Draws the first t steps of a day.

    Args:
        temperatures: Zone temperatures in deg C, floats [t + 1, n]; row 0 is the start.
        outdoor: Outdoor temperatures in deg C, floats [t + 1].
        power: Power of the zones' units in every step, floats [t, n] in [-1, 1];
            negative cools.
        target: Target temperature of the zones in deg C.
        steps: Length of the whole episode in steps of five minutes; the time axis.
        zones: Names of the n zones.
        title: Title of the picture.

    Returns:
        RGB, uint8 [640, 960, 3].
    """
    spans = _span(temperatures, target), _span(outdoor, None)
    picture = _picture(target, steps, zones, title, *spans)
    return picture.draw(temperatures, outdoor, power)


class _Picture:
    """A figure whose axes and legend are drawn once, and its curves in every step.

    Matplotlib takes a tenth of a second for a figure, but only a few milliseconds for
    the curves. So all frames of a day share everything except the curves.
    """

    def __init__(
        self,
        target: float,
        steps: int,
        zones: tuple[str, ...],
        title: str,
        zone_span: tuple[float, float],
        outdoor_span: tuple[float, float],
    ) -> None:
        # The object interface with the Agg canvas: no display, no global pyplot state.
        # Imported here: an env that is never drawn does not need Matplotlib.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D

        self._target = target
        self._many = len(zones) > len(_COLORS)
        colors = (_ONE_OF_MANY,) if self._many else _COLORS[: len(zones)]
        figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI)
        self._canvas = FigureCanvasAgg(figure)
        self._panels = _lay_out(figure, steps, zone_span, outdoor_span)
        inside, outside, units = self._panels
        width = 0.5 if self._many else 1.7
        self._zones = LineCollection([], colors=colors, linewidths=width)
        self._units = LineCollection([], colors=colors, linewidths=0.8 * width)
        inside.add_collection(self._zones, autolim=False)
        units.add_collection(self._units, autolim=False)
        self._outdoor = outside.plot([], [], color=_OUTDOOR, linewidth=1.6)[0]
        self._means = [
            axes.plot([], [], color=_MEAN, linewidth=2.0)[0] for axes in (inside, units)
        ]
        # present temperature of each zone; before the first step there is no curve
        self._now = inside.scatter([], [], s=22, zorder=4, clip_on=False)
        self._now.set_facecolor((_MEAN,) if self._many else colors)
        target_line = inside.axhline(target, **_TARGET)
        lines = [Line2D([], [], color=color, linewidth=1.7) for color in colors]
        lines = [Line2D([], [], **_TARGET), *self._means[: self._many], *lines]
        names = [f"one of {len(zones)} zones"] if self._many else map(_short, zones)
        means = ["mean of the zones"] if self._many else []
        figure.legend(
            lines,
            [f"target {target:g} °C", *means, *names],
            loc="upper left",
            bbox_to_anchor=(_RIGHT + 0.01, _TOP + 0.01),
            frameon=False,
            fontsize=9,
            handlelength=1.6,
        )
        figure.text(_LEFT, _HEADLINE, title, fontsize=13, weight="bold")
        self._words = figure.text(
            _RIGHT, _HEADLINE, "", fontsize=10.5, color="0.25", ha="right"
        )
        # the background does not contain animated artists
        self._moving = [
            (inside, self._words),
            (inside, self._zones),
            (outside, self._outdoor),
            (units, self._units),
            (inside, self._means[0]),
            (units, self._means[1]),
            (inside, target_line),
            (inside, self._now),
        ]
        for _, artist in self._moving:
            artist.set_animated(True)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(figure.bbox)

    def draw(
        self, temperatures: np.ndarray, outdoor: np.ndarray, power: np.ndarray
    ) -> np.ndarray:
        """Draws these curves; see the module's function `draw`."""
        hours = np.arange(len(temperatures)) * _STEP_HOURS  # [t + 1]
        # power is constant within a step: two points per step
        edges, held = hours.repeat(2)[1:-1], power.repeat(2, axis=0)  # [2t], [2t, n]
        self._zones.set_segments(list(_curves(hours, temperatures)))
        self._units.set_segments(list(_curves(edges, held)))
        self._outdoor.set_data(hours, outdoor)
        last = temperatures[-1]
        if self._many:
            self._means[0].set_data(hours, temperatures.mean(axis=1))
            self._means[1].set_data(edges, held.mean(axis=1))
            last = last.mean(keepdims=True)
        self._now.set_offsets(np.stack([np.full(len(last), hours[-1]), last], axis=1))
        deviation = np.abs(temperatures[-1] - self._target).mean()
        minutes = round(hours[-1] * 60)
        self._words.set_text(
            f"{minutes // 60:02d}:{minutes % 60:02d}    off target by "
            f"{deviation:.2f} °C"
        )
        self._canvas.restore_region(self._background)
        for axes, artist in self._moving:
            axes.draw_artist(artist)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()


# An episode needs one picture. A few are kept, so that envs that are drawn in turn do
# not rebuild theirs in every step.
_picture = lru_cache(maxsize=4)(_Picture)


def _lay_out(
    figure: Any,
    steps: int,
    zone_span: tuple[float, float],
    outdoor_span: tuple[float, float],
) -> list[Any]:
    """The three panels: zone temperatures, outdoor temperature, power."""
    grid = figure.add_gridspec(
        3,
        1,
        height_ratios=(3.2, 1.3, 1.9),
        left=_LEFT,
        right=_RIGHT,
        bottom=_BOTTOM,
        top=_TOP,
        hspace=0.13,
    )
    panels = [figure.add_subplot(grid[row]) for row in range(3)]
    inside, outside, units = panels
    inside.set_ylim(zone_span)
    inside.set_ylabel("zones (°C)")
    outside.set_ylim(outdoor_span)
    outside.set_ylabel("outdoor (°C)")
    for axes in (inside, outside):
        axes.locator_params(axis="y", integer=True)
    units.set_ylim(-1.08, 1.08)
    units.set_yticks([-1, 0, 1], ["cool  −1", "0", "heat  +1"])
    units.set_ylabel("power")
    units.set_xlabel("hours")
    units.axhline(0, color="0.6", linewidth=0.8)
    hours = steps * _STEP_HOURS
    for axes in panels:
        axes.set_xlim(0, hours)
        if hours >= 12:  # shorter episodes: Matplotlib's own choice
            axes.set_xticks(np.arange(0, hours + 1e-9, 3 if hours <= 48 else 24))
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, labelbottom=axes is units)
        axes.yaxis.set_label_coords(-0.06, 0.5)
    return panels


def _curves(x: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """One line per column: points [n, t, 2] of x [t] and columns [t, n]."""
    return np.stack([np.broadcast_to(x[:, None], columns.shape), columns], -1).swapaxes(
        0, 1
    )


def _span(values: np.ndarray, around: float | None) -> tuple[float, float]:
    """Limits of a temperature axis, rounded so that they seldom change in a day."""
    middle = float(values[0]) if around is None else around
    low = min(float(values.min()), middle - _SMALLEST_SPAN)
    high = max(float(values.max()), middle + _SMALLEST_SPAN)
    grid = _GRID if around is not None else 2 * _GRID
    return float(np.floor(low / grid) * grid), float(np.ceil(high / grid) * grid)


def _short(name: str) -> str:
    """A zone's name as the legend shows it; cut before the end, where names differ."""
    name = name.replace("_", " ").lower()
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:7]}…{name[8 - _LONGEST_NAME :]}"
