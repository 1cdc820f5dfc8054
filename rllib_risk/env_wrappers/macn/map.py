"""The map of Multi-Agent Cliff Navigation: which cell is cliff, goal or start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_risk.env_wrappers.errors import EnvConfigError

Cell = tuple[int, int]

NUM_AGENTS = 2
DEFAULT_WIDTH = 7
DEFAULT_HEIGHT = 4

# The batched env holds a table over all pairs of cells: 1024 cells are 38 MB of
# observations ("codes") and still quick to build.
MAX_CELLS = 1024

_LETTERS = ".CGS01"


@dataclass(frozen=True)
class GridMap:
    """A parsed map.

    Attributes:
        cliff: True where an agent falls, bool [H, W].
        goal: True on goal cells, bool [H, W].
        starts: Start cell (row, column) of each of the two agents; row 0 is the top.
    """

    cliff: np.ndarray
    goal: np.ndarray
    starts: tuple[Cell, Cell]

    @property
    def height(self) -> int:
        """Number of rows H."""
        return self.cliff.shape[0]

    @property
    def width(self) -> int:
        """Number of columns W."""
        return self.cliff.shape[1]


def load_map(
    layout: str | Sequence[str] = "classic",
    width: int | None = None,
    height: int | None = None,
    starts: Sequence[Sequence[int]] | None = None,
) -> GridMap:
    """Builds a map from its description.

    Args:
        layout: "classic" (Sutton and Barto's cliff walk: start in the lower left
            corner, goal in the lower right one, cliff between them) or a map: a list
            of rows or one string of several lines with the letters '.' free, 'C'
            cliff, 'G' goal, 'S' start (of both agents, or two of them in reading
            order) and '0' and '1' start of agent 0 and agent 1.
        width: Columns of the classic map, at least 3 (7 if None). With a drawn map,
            leave it out or give that map's width.
        height: Rows of the classic map, at least 2 (4 if None); as `width`.
        starts: Start cells [[row, column], [row, column]]. Required for a drawn map
            without start marks. They replace the start cells of the classic map.

    Returns:
        The parsed map.

    Raises:
        EnvConfigError: If the description does not make a playable map.
    """
    if isinstance(layout, str) and layout == "classic":
        grid, own_starts = _classic(width, height), None
        corner = (grid.shape[0] - 1, 0)
        default_starts: tuple[Cell, Cell] = (corner, corner)
    else:
        grid, own_starts = _parse(layout)
        _check_size("width", width, grid.shape[1])
        _check_size("height", height, grid.shape[0])
        default_starts = own_starts or ((0, 0), (0, 0))
        if own_starts is None and starts is None:
            raise EnvConfigError(
                "layout names no start: mark it with 'S' (both agents), or '0' and "
                "'1', or set starts"
            )
        if own_starts is not None and starts is not None:
            raise EnvConfigError(
                "the start cells are given twice, in layout and in starts: remove one"
            )
    if grid.size > MAX_CELLS:
        raise EnvConfigError(
            f"the map has {grid.size} cells, but at most {MAX_CELLS} are allowed: draw"
            " a smaller map"
        )
    cells = default_starts if starts is None else _parse_starts(starts)
    for agent, (row, column) in enumerate(cells):
        inside = 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]
        if not inside or grid[row, column] != ".":
            where = "outside the map" if not inside else "a cliff or goal cell"
            raise EnvConfigError(
                f"agent {agent} cannot start at ({row}, {column}): that is {where}."
                " Choose a free cell"
            )
    return GridMap(cliff=grid == "C", goal=grid == "G", starts=cells)


def _classic(width: int | None, height: int | None) -> np.ndarray:
    """Letters [H, W] of the classic map, without start marks."""
    width = DEFAULT_WIDTH if width is None else width
    height = DEFAULT_HEIGHT if height is None else height
    for key, value, low in (("width", width, 3), ("height", height, 2)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise EnvConfigError(
                f"{key} must be an integer of at least {low}, not {value!r}"
            )
    grid = np.full((height, width), ".")
    grid[-1, 1:-1] = "C"
    grid[-1, -1] = "G"
    return grid


def _check_size(key: str, given: int | None, found: int) -> None:
    if given is not None and given != found:
        raise EnvConfigError(
            f"the {key} of layout is {found}, but the argument {key} is {given}: remove"
            f" the argument {key}"
        )


def _parse(
    layout: str | Sequence[str],
) -> tuple[np.ndarray, tuple[Cell, Cell] | None]:
    """Letters [H, W] ('.', 'C', 'G') and the start cells of a map, if it has any."""
    lines = layout.splitlines() if isinstance(layout, str) else layout
    if not isinstance(lines, list | tuple) or not all(
        isinstance(line, str) for line in lines
    ):
        raise EnvConfigError("layout must be 'classic', one string or a list of rows")
    rows = [line.strip() for line in lines if line.strip()]
    if isinstance(layout, str) and len(rows) == 1 and set(rows[0]) - set(_LETTERS):
        raise EnvConfigError(f"unknown layout {layout!r}: use 'classic' or draw a map")
    if not rows or len({len(row) for row in rows}) != 1:
        raise EnvConfigError("layout must have at least one row, all of one length")
    grid = np.array([list(row) for row in rows])
    unknown = sorted(set(grid.ravel().tolist()) - set(_LETTERS))
    if unknown:
        raise EnvConfigError(
            f"layout holds unknown letters {unknown}: use '.' free, 'C' cliff, 'G' "
            "goal, 'S' or '0' and '1' start"
        )
    if not (grid == "G").any():
        raise EnvConfigError("layout has no goal: mark it with 'G'")
    marks = {letter: _cells(grid, letter) for letter in "S01"}
    starts = _starts_of(marks)
    grid[np.isin(grid, list("S01"))] = "."
    return grid, starts


def _cells(grid: np.ndarray, letter: str) -> list[Cell]:
    """Cells that hold a letter, in reading order."""
    return [(int(row), int(column)) for row, column in np.argwhere(grid == letter)]


def _starts_of(marks: dict[str, list[Cell]]) -> tuple[Cell, Cell] | None:
    """The two start cells from the marks in a map, None if there are none."""
    counts = tuple(len(marks[letter]) for letter in "S01")
    if counts == (0, 0, 0):
        return None
    if counts == (1, 0, 0):
        return marks["S"][0], marks["S"][0]
    if counts == (2, 0, 0):
        return marks["S"][0], marks["S"][1]
    if counts == (0, 1, 1):
        return marks["0"][0], marks["1"][0]
    raise EnvConfigError(
        "layout must mark the starts with one 'S' for both agents, two 'S', or one '0' "
        f"and one '1'; found {counts[0]} 'S', {counts[1]} '0', {counts[2]} '1'"
    )


def _parse_starts(starts: Sequence[Sequence[int]]) -> tuple[Cell, Cell]:
    """The user's [[row, column], [row, column]] as cells."""
    try:
        (row_0, column_0), (row_1, column_1) = starts
        numbers: list[Any] = [row_0, column_0, row_1, column_1]
    except (TypeError, ValueError):
        numbers = [None]
    if not all(isinstance(x, int) and not isinstance(x, bool) for x in numbers):
        raise EnvConfigError(
            f"starts must be two cells [[row, column], [row, column]], not {starts!r}"
        )
    return (row_0, column_0), (row_1, column_1)
