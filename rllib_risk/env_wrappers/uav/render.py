"""Draws the env `uav`."""

from __future__ import annotations

import numpy as np

from rllib_risk.env_wrappers.uav.world import World

PIXELS = 48  # edge of a cell

_FREE = (240, 240, 236)
_RISK = (246, 205, 200)
_LINE = (205, 205, 205)
_FRESH, _STALE = np.array((60, 160, 90)), np.array((150, 30, 40))
_UAVS = ((30, 90, 200), (240, 140, 20), (120, 70, 170), (20, 150, 150))
_EDGE = (25, 25, 25)


def draw(world: World, cells: np.ndarray, ages: np.ndarray) -> np.ndarray:
    """The map as a picture, x to the right and y upwards.

    Args:
        world: The map.
        cells: Cells of the UAVs, integers [U, 2].
        ages: Ages of the devices' information, integers [M].

    Returns:
        RGB, uint8 [G * 48, G * 48, 3]. The risk region is red. Devices are squares from
        green (fresh) to dark red (the greatest age) on a logarithmic scale. UAVs are
        discs, side by side if they share a cell.
    """
    colours = np.where(world.risk[..., None], _RISK, _FREE).astype(np.uint8)
    image = colours.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)  # [x, y, 3]
    image[::PIXELS] = _LINE
    image[:, ::PIXELS] = _LINE
    for (x, y), age in zip(world.device_cells, ages, strict=True):
        share = np.log(age) / np.log(max(world.max_age, 2))
        patch = _patch(image, x, y)
        patch[14:-13, 14:-13] = _EDGE
        patch[16:-15, 16:-15] = (1 - share) * _FRESH + share * _STALE
    a, b = np.mgrid[:PIXELS, :PIXELS]
    for uav, (x, y) in enumerate(cells):
        # Side by side in the cell, so that all UAVs of a cell are visible.
        centre = PIXELS * (uav + 1) / (len(cells) + 1)
        distance2 = (a - centre) ** 2 + (b - 0.78 * PIXELS) ** 2
        patch = _patch(image, x, y)
        patch[distance2 <= (PIXELS / 6.5) ** 2] = _EDGE
        patch[distance2 <= (PIXELS / 8) ** 2] = _UAVS[uav % len(_UAVS)]
    return np.ascontiguousarray(image.swapaxes(0, 1)[::-1])


def _patch(image: np.ndarray, x: int, y: int) -> np.ndarray:
    return image[x * PIXELS : (x + 1) * PIXELS, y * PIXELS : (y + 1) * PIXELS]
