"""Draws Multi-Agent Cliff Navigation as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rllib_risk.env_wrappers.macn.map import Cell, GridMap

PIXELS = 48  # edge of a cell

_FREE = (236, 236, 230)
_START = (200, 222, 245)
_CLIFF = (120, 35, 35)
_GOAL = (95, 175, 95)
_LINE = (150, 150, 150)
_AGENTS = ((30, 90, 200), (240, 140, 20))


def write(grid: GridMap, cells: Sequence[Cell]) -> str:
    """The map as text.

    Args:
        grid: The map.
        cells: Cell of each agent.

    Returns:
        One line per row: '.' free, 'C' cliff, 'G' goal, '0' and '1' the agents, '*'
        both of them in one cell.
    """
    letters = np.where(grid.cliff, "C", np.where(grid.goal, "G", "."))
    for agent, cell in enumerate(cells):
        letters[cell] = str(agent)
    if cells[0] == cells[1]:
        letters[cells[0]] = "*"
    return "\n".join("".join(row) for row in letters)


def draw(grid: GridMap, cells: Sequence[Cell]) -> np.ndarray:
    """The map as a picture.

    Args:
        grid: The map.
        cells: Cell of each agent.

    Returns:
        RGB, uint8 [H * 48, W * 48, 3]: cliff red, goal green, start cells pale blue,
        agent 0 a blue disc to the left, agent 1 an orange disc to the right.
    """
    colours = np.full((grid.height, grid.width, 3), _FREE, np.uint8)
    for start in grid.starts:
        colours[start] = _START
    colours[grid.cliff] = _CLIFF
    colours[grid.goal] = _GOAL
    image = colours.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
    image[::PIXELS] = _LINE
    image[:, ::PIXELS] = _LINE
    y, x = np.mgrid[:PIXELS, :PIXELS]
    for agent, (row, column) in enumerate(cells):
        # left or right of the middle, so that both agents show in a shared cell
        centre_x = PIXELS * (3 + 6 * agent) // 12 + PIXELS // 24
        disc = (y - PIXELS // 2) ** 2 + (x - centre_x) ** 2 <= (PIXELS // 5) ** 2
        patch = image[
            row * PIXELS : (row + 1) * PIXELS, column * PIXELS : (column + 1) * PIXELS
        ]
        patch[disc] = _AGENTS[agent]
    return image
