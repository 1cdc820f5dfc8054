"""The picture of a day: its size, what is drawn where, and what never overlaps."""

import numpy as np
import pytest

from rllib_risk.env_wrappers.hvac.render import HEIGHT, WIDTH, _short, draw

# The panels end at 0.795 of the width; the legend lies to the right of them.
PANELS_END = int(0.795 * WIDTH)


def picture(steps_played, zones=6, *, offset=1.0, title="Tucson, day 3", steps=288):
    """A day that ends with zone i too warm by (i + 1) / n * offset, at constant power.

    Temperatures stay within 2 degC of the target and the outdoors within 20 .. 24, so
    that all these pictures have the same axes.
    """
    ramp = np.linspace(0.0, 1.0, steps + 1)[: steps_played + 1]
    each = np.arange(1, zones + 1) / zones
    temperatures = 22.0 + offset * ramp[:, None] * each
    power = np.full((steps_played, zones), -0.5) * each
    names = tuple(f"PERIMETER_BOTTOM_ZONE_{i}" for i in range(zones))
    return draw(temperatures, 21.0 + 2 * ramp, power, 22.0, steps, names, title)


@pytest.mark.parametrize("zones", [3, 10, 11, 118])
@pytest.mark.parametrize("steps_played", [0, 1, 288])
def test_the_size_never_changes(zones, steps_played):
    image = picture(steps_played, zones)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    assert image.flags.owndata and image.flags.writeable


def test_curves_grow_and_nothing_else_changes():
    early, late = picture(100), picture(200)
    # Straight lines are rasterised in one piece, so faint edge pixels may differ.
    changed = (np.abs(early.astype(int) - late) > 60).any(axis=2)
    in_the_panels = np.flatnonzero(changed[int(0.07 * HEIGHT) :].any(axis=0))
    # 100 of 288 steps lie at 0.08 + 100 / 288 * 0.715 = 0.328 of the width, and 200 at
    # 0.577; the dot of the present is a few pixels wide. Above is the clock.
    assert abs(in_the_panels[0] - 0.328 * WIDTH) < 8
    assert abs(in_the_panels[-1] - 0.577 * WIDTH) < 8
    assert changed[: int(0.07 * HEIGHT)].any()


def test_the_picture_shows_temperatures_and_power():
    warm, hot = picture(288, offset=0.5), picture(288, offset=1.5)
    rows = np.flatnonzero((warm != hot).any(axis=(1, 2)))
    # only the upper panel differs: 3.2 of 6.4 shares of (0.915 - 0.075) of the height,
    # with gaps; below it, outdoor temperature and power are the same
    assert rows[0] < 0.5 * HEIGHT and rows[-1] < 0.5 * HEIGHT
    power = np.full((288, 1), 0.25)
    flat = np.full((289, 1), 22.0)
    heat, cool = (
        draw(flat, flat[:, 0], sign * power, 22.0, 288, ("HALL",), "")
        for sign in (1, -1)
    )
    rows = np.flatnonzero((heat != cool).any(axis=(1, 2)))
    assert rows[0] > 0.68 * HEIGHT
    up = heat[rows[0] : rows[-1] + 1].astype(int)
    down = cool[rows[0] : rows[-1] + 1].astype(int)
    middle = len(up) // 2
    # darker means drawn: heating lies in the upper half, cooling in the lower one
    assert up[:middle].sum() < down[:middle].sum()
    assert up[middle + 1 :].sum() > down[middle + 1 :].sum()


@pytest.mark.parametrize("zones", [3, 6, 10, 118])
def test_the_legend_lies_beside_the_panels_and_inside_the_picture(zones):
    image = picture(288, zones)
    right = image[:, PANELS_END + 12 :]
    drawn = np.flatnonzero((right < 200).any(axis=(0, 2)))
    assert drawn.size, "there is a legend"
    assert drawn[-1] < right.shape[1] - 8, "its words end before the picture does"
    # a strip without ink between the panels and the legend
    strip = image[int(0.08 * HEIGHT) : int(0.9 * HEIGHT), PANELS_END + 6 :][:, :6]
    assert (strip == 255).all()


def test_the_same_day_gives_the_same_picture_whatever_was_drawn_before():
    before = picture(150)
    for zones in (3, 118, 5, 7, 9):
        picture(20, zones)
    np.testing.assert_array_equal(picture(150), before)
    assert (picture(150, title="Tampa, day 3") != before).any()


@pytest.mark.parametrize("steps", [1, 12, 288, 576, 2016])
def test_any_length_of_an_episode(steps):
    empty, full = picture(0, steps=steps), picture(steps, steps=steps)
    assert (empty != full).any()


def test_far_temperatures_stay_inside_the_picture():
    # a cold start at -30 and a fire at 90: the axis grows with the curve
    ramp = np.linspace(-30.0, 90.0, 289)
    image = draw(
        ramp[:, None], ramp, np.zeros((288, 1)), 22.0, 288, ("HALL",), "far off"
    )
    colour = np.array([0x00, 0x72, 0xB2])
    near = (np.abs(image.astype(int) - colour) < 40).all(axis=-1)
    columns = np.flatnonzero(near[: HEIGHT // 2, :PANELS_END].any(axis=0))
    # drawn from the first hour to the last; a dash of the target may lie on top
    assert columns[-1] - columns[0] > 0.7 * WIDTH
    assert np.diff(columns).max() < 16


def test_long_names_keep_their_ends():
    assert _short("CORE_ZN") == "core zn"
    assert _short("PERIMETER_BOT_ZN_3") == "perimeter bot zn 3"
    assert _short("PERIMETER_BOTTOM_ZN_3") == "perimet…ottom zn 3"
    assert len(_short("X" * 60)) == 18
