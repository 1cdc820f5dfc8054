"""Draws the env `smax`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PIXELS = 15  # edge of a unit of length

_GROUND = (240, 240, 236)
_ALLY, _ENEMY = (30, 90, 200), (205, 50, 45)
_DEAD = (200, 200, 196)
_EDGE = (25, 25, 25)
_HEALTH, _LOST = (60, 160, 90), (225, 205, 205)
_LETTERS = "mMsZzh"  # marine, marauder, stalker, zealot, zergling, hydralisk


def draw(
    units: Mapping[str, np.ndarray], map_size: tuple[int, int], num_allies: int
) -> np.ndarray:
    """A battle as a picture, x to the right and y upwards.

    Args:
        units: The result of `SmaxCore.positions`.
        map_size: Width and height of the map.
        num_allies: Number of units of the team, which come first.

    Returns:
        RGB, uint8 [height * 15, width * 15, 3]. Allies are blue and enemies red, with
        the letter of their type, a health bar, and a line to the unit that they attack.
        Dead units are small grey discs.
    """
    from PIL import Image, ImageDraw

    width, height = map_size
    image = Image.new("RGB", (width * PIXELS, height * PIXELS), _GROUND)
    pen = ImageDraw.Draw(image)
    places = units["positions"] * PIXELS
    places[:, 1] = height * PIXELS - places[:, 1]
    alive = units["health"] > 0
    colours = [_ALLY if i < num_allies else _ENEMY for i in range(len(alive))]
    for unit, target in enumerate(units["targets"].tolist()):
        if target >= 0 and alive[unit] and alive[target]:
            ends = [*places[unit].tolist(), *places[target].tolist()]
            pen.line(ends, fill=colours[unit], width=1)
    for unit in np.argsort(alive, kind="stable").tolist():  # dead units first, below
        x, y = places[unit].tolist()
        if not alive[unit]:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=_DEAD, outline=_EDGE)
            continue
        r = max(6.0, float(units["radiuses"][unit]) * PIXELS)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=colours[unit], outline=_EDGE)
        letter = _LETTERS[int(units["types"][unit])]
        pen.text((x, y), letter, fill=(255, 255, 255), anchor="mm")
        top, whole = y - r - 5, 2 * r
        pen.rectangle([x - r, top, x + r, top + 2], fill=_LOST)
        share = float(units["health"][unit]) * whole
        pen.rectangle([x - r, top, x - r + share, top + 2], fill=_HEALTH)
    return np.array(image)
