"""Learning curves in one panel or in several, and their colours."""

from pathlib import Path

import numpy as np
import pytest

from rllib_risk.evaluation.curve_figure import draw_curves
from rllib_risk.evaluation.figure_style import COLORS, curve_colors
from rllib_risk.evaluation.results import Group, Run
from rllib_risk.ops.statistics import AggregatedCurve


def curve(label, runs):
    x, y = np.array([0.0, 10.0]), np.array([-30.0, -7.0])
    seeds = [Run(Path(label), seed, x, y, x, y) for seed in range(runs)]
    return Group(label, seeds), AggregatedCurve(x, y, y - 1, y + 1, runs)


@pytest.mark.parametrize(("names", "panels"), [("ABCD", 1), ("ABCDE", 5)])
def test_many_curves_have_a_panel_each(names, panels, tmp_path):
    out = tmp_path / "curves.svg"
    draw_curves([curve(name, 3) for name in names], out, metric="m", x="x", title="T")
    drawn = out.read_text()
    # A hidden panel is not drawn; matplotlib writes each text as a comment.
    assert drawn.count('id="axes_') == panels
    assert all(f"<!-- {name} (3 seeds) -->" in drawn for name in names)
    # Every panel has its own line and, if there are several, those of the others.
    assert drawn.count("stroke: #cccccc") == (0 if panels == 1 else 5 * 5)
    assert "too few" not in drawn


def test_two_runs_have_a_warning_and_one_has_no_band(tmp_path):
    for runs, bands in ((1, 0), (2, 1)):
        out = tmp_path / f"{runs}.svg"
        draw_curves([curve("QMIX", runs)], out, metric="m", x="x")
        assert out.read_text().count('id="FillBetween') == bands
        assert ("Two runs are too few" in out.read_text()) == (runs == 2)


def test_an_algorithm_has_one_colour_in_all_figures():
    blue, red, green, pink, orange, sky, black = COLORS
    assert curve_colors(["QMIX", "RMIX"]) == [blue, red]
    assert curve_colors(["COMA", "RMIX, static 0.3", "QMIX"]) == [green, red, blue]
    # Only the first of two settings gets the colour of its algorithm.
    assert curve_colors(["qmix-adam", "qmix-rmsprop"]) == [blue, red]
    many = [*"abcdef", "vdn", "g"]
    left = [blue, red, pink, orange, sky, black, green, blue]
    assert curve_colors(many) == left
