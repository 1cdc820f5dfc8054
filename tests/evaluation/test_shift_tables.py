"""Evaluation under shift: the summary over cells, the tables and the heat map."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from rllib_risk.config.shift_grid import parse_shift_grid
from rllib_risk.config.yaml_reader import parse_yaml
from rllib_risk.evaluation.shift import PolicyScores, ShiftResults, summarise_cells
from rllib_risk.evaluation.shift_plot import color_range, map_layout
from rllib_risk.evaluation.shift_report import (
    print_shift,
    shift_json,
    shift_markdown,
    write_shift,
)


def grid_of(text):
    return parse_shift_grid(parse_yaml(text, "grid.yaml"), "my-grid")


GRID = grid_of(
    """
nominal: {season: in}
grid:
  city: [tucson, tampa, seattle]
  season: {in: {x: 0}, out: {x: 1}}
"""
)
# [1 run, 6 cells, 2 episodes]; the means are 9, 7, 5, 3, 1 and 8.
ONE = np.array([[[8, 10], [7, 7], [4, 6], [0, 6], [1, 1], [8, 8.0]]])


def results(*policies, grid=GRID):
    return ShiftResults(grid, "hvac", "return", 0, policies)


def test_the_summary_over_cells():
    means = PolicyScores("a", ONE).means
    assert means.tolist() == [9.0, 7.0, 5.0, 3.0, 1.0, 8.0]
    summary = summarise_cells(means, nominal=0)
    # 33 over 6 cells; a fifth of 6 cells, rounded up, are the 2 worst: 1 and 3
    assert (summary.nominal, summary.mean, summary.worst) == (9.0, 5.5, 1.0)
    assert (summary.worst_cell, summary.cvar) == (4, 2.0)
    assert math.isnan(summarise_cells(means, nominal=None).nominal)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40))
def test_the_cvar_lies_between_worst_and_mean(means):
    summary = summarise_cells(np.array(means), 0)
    assert summary.worst <= summary.cvar + 1e-9
    assert summary.cvar <= summary.mean + 1e-9
    lowest = sorted(means)[: -(-len(means) // 5)]
    assert summary.cvar == pytest.approx(sum(lowest) / len(lowest), abs=1e-9)


def test_several_runs_count_as_one_policy():
    runs = np.concatenate([ONE, ONE + 2, ONE + 4])
    policy = PolicyScores("a", runs)
    assert policy.means.tolist() == [11.0, 9.0, 7.0, 5.0, 3.0, 10.0]
    low, high = policy.intervals
    # Resamples of the three runs, whose means are 9, 11 and 13 in the first cell. One
    # run is drawn three times with (1 / 3) ** 3, which is more than one in forty.
    assert (low[0], high[0]) == (9.0, 13.0)
    # With one run, resamples of its episodes: 8 and 10.
    low, high = PolicyScores("a", ONE).intervals
    assert (low[0], high[0]) == (8.0, 10.0)
    assert (low[1], high[1]) == (7.0, 7.0)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    luck = 100 * rng.normal(size=(1, 6, 50))  # noise of the seeds, the same for both
    first = PolicyScores("a", luck)
    second = PolicyScores("b", luck + 1 + 0.01 * rng.normal(size=luck.shape))
    mean, low, high = second.differences(first)
    # Unpaired, the interval would be some 40 wide on each side.
    np.testing.assert_allclose(mean, 1.0, atol=0.01)
    assert (low > 0.98).all() and (high < 1.02).all()
    assert (low <= mean).all() and (mean <= high).all()


def policies():
    return (
        PolicyScores("a", ONE, successes=(ONE > 5).astype(float), sources=("x/a",)),
        PolicyScores("b|c", ONE + 1, sources=("x/b",), crashes=3),
        PolicyScores("random", ONE - 20, reference=True),
    )


def test_the_files(tmp_path):
    shown = results(*policies())
    files = write_shift(shown, tmp_path)
    names = [f"shift.{suffix}" for suffix in ("md", "tex", "csv", "json", "png")]
    assert [f.name for f in files] == names
    assert files[0].read_text() == shift_markdown(shown)
    latex = files[1].read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 3
    # The summary; then tables with left-aligned axes and right-aligned numbers.
    assert r"\begin{tabular}{lrrrrl}" in latex and r"\begin{tabular}{llrrr}" in latex
    with files[2].open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 3 * 6
    first = rows[0]
    assert (first["policy"], first["city"], first["season"]) == ("a", "tucson", "in")
    assert (first["nominal"], first["runs"], first["episodes"]) == ("1", "1", "2")
    # 8 and 10: standard deviation sqrt(2); the lowest tenth of two is the lowest
    numbers = {key: float(first[key]) for key in ("mean", "std", "min", "cvar_10")}
    assert numbers == {
        "mean": 9.0,
        "std": pytest.approx(math.sqrt(2)),
        "min": 8.0,
        "cvar_10": 8.0,
    }
    assert (first["success_rate"], first["difference"]) == ("1.0", "")
    # one of 0 and 6 is a success
    assert rows[3]["success_rate"] == "0.5"
    # b is better by one in every episode, and the random one worse by twenty
    assert rows[6]["policy"] == "b|c" and rows[6]["success_rate"] == ""
    for row, difference in ((rows[6], "1.0"), (rows[12], "-20.0")):
        assert row["difference"] == row["difference_low"] == difference
    assert [row["reference"] for row in rows[11:13]] == ["0", "1"]
    saved = json.loads(files[3].read_text())
    assert saved == shift_json(shown)
    assert saved["nominal"] == {"city": "tucson", "season": "in"}
    assert saved["axes"] == {
        "city": ["tucson", "tampa", "seattle"],
        "season": ["in", "out"],
    }
    assert saved["cells"][3] == {
        "axes": {"city": "tampa", "season": "out"},
        "env_config": {"city": "tampa", "x": 1},
    }
    second = saved["policies"][1]
    assert second["summary"] == {
        "nominal": 10.0,
        "mean": 6.5,
        "worst": 2.0,
        "worst_cell": "city=seattle, season=in",
        "cvar_20": 3.0,
    }
    assert second["values"] == (ONE + 1).tolist()
    assert (second["crashes"], second["checkpoints"]) == (3, ["x/b"])
    assert second["cells"][0]["success_rate"] is None
    with Image.open(files[4]) as image:
        assert min(image.size) > 300


def test_the_markdown_tables():
    text = shift_markdown(results(*policies()))
    assert "| a | 9 | 5.5 | 1 | 2 | city=seattle, season=in |" in text
    assert "| random (reference) | -11 | -14.5 | -19 | -18 |" in text
    # a bar in a name does not begin a column
    assert "| city | season | a | b\\|c | random (reference) |" in text
    assert "| tampa | out | 3 [0, 6] | 4 [1, 7] | -17 [-20, -14] |" in text
    # differences of trained policies, not of references
    assert "## Difference to a" in text
    assert "| tampa | out | 1 [1, 1] |\n" in text
    assert (
        "Nominal: city=tucson, season=in. CVaR 20 %: mean of the 2 worst of 6" in text
    )
    assert "- a: `x/a`\n- b|c: `x/b`" in text
    alone = shift_markdown(results(policies()[0]))
    assert "Difference" not in alone


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_cut_on_screen(width):
    stream = io.StringIO()
    print_shift(results(*policies()), Console(file=stream, width=width))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    assert ["tampa", "out", "3", "4", "-17"] in lines
    (summary,) = (line for line in lines if line[:1] == ["b|c"])
    assert summary[1:5] == ["10", "6.5", "2", "3"]


@pytest.mark.parametrize("width", [30, 60, 80])
def test_no_name_is_broken_on_screen(width):
    grid = grid_of("grid: {city: [port_angeles, ho_chi_minh_city], season: [winter]}")
    names = ["a_policy_of_my_own", "another_policy_of_mine", "robust_vdn_with_atoms"]
    shown = [PolicyScores(name, ONE[:, :2]) for name in names]
    stream = io.StringIO()
    print_shift(results(*shown, grid=grid), Console(file=stream, width=width))
    text = stream.getvalue()
    for name in (*names, "port_angeles", "ho_chi_minh_city"):
        assert name in text.split(), text


def test_many_cells_are_left_to_the_files():
    grid = grid_of(f"nominal: none\ngrid: {{a: {list(range(50))}}}")
    shown = results(PolicyScores("x", np.arange(50.0)[None, :, None]), grid=grid)
    stream = io.StringIO()
    print_shift(shown, Console(file=stream, width=100))
    assert "Over all cells" in stream.getvalue()
    assert "by cell" not in stream.getvalue()
    assert "There is no nominal cell." in stream.getvalue()
    summary = next(x for x in stream.getvalue().splitlines() if x.startswith("x "))
    # no nominal cell; mean of 0 .. 49; worst 0; mean of 0 .. 9
    assert summary.split()[:5] == ["x", "–", "24.5", "0", "4.5"]
    assert shift_json(shown)["policies"][0]["summary"]["nominal"] is None


def test_the_second_axis_runs_from_left_to_right():
    grid = grid_of("grid: {a: [0, 1], b: [0, 1, 2], c: [0, 1], d: [x]}")
    rows, columns, index = map_layout(grid)
    assert columns == ["0", "1", "2"]
    assert rows == ["0, 0, x", "0, 1, x", "1, 0, x", "1, 1, x"]
    for row, name in enumerate(rows):
        for column, label in enumerate(columns):
            a, c, d = name.split(", ")
            assert grid.cells[index[row, column]].labels == (a, label, c, d)


def test_one_colour_scale_for_all_trained_policies():
    # from 1, the worst of a, to 10, the best of b; without the random reference
    assert color_range(results(*policies())) == (1.0, 10.0)
    flat = PolicyScores("a", np.full((1, 6, 2), 3.0))
    assert color_range(results(flat)) == (2.5, 3.5)


@pytest.mark.parametrize(
    "text",
    [
        "nominal: none\ngrid: {a: [0]}",
        "nominal: {a: 1}\ngrid: {a: [0, 1, 2]}",
        "nominal: none\ngrid: {a: [0, 1], b: [0]}",
        "grid: {a: [0, 1], b: [0, 1, 2], c: [0, 1]}",
    ],
)
@pytest.mark.parametrize("number", [1, 2, 4, 5])
def test_every_shape_of_grid_is_drawn(text, number, tmp_path):
    grid = grid_of(text)
    rng = np.random.default_rng(0)
    shape = (1, len(grid.cells), 3)
    scores = [PolicyScores(f"p{i}", rng.normal(size=shape)) for i in range(number)]
    scores.append(PolicyScores("random", rng.normal(size=shape) - 9, reference=True))
    files = write_shift(results(*scores, grid=grid), tmp_path)
    with Image.open(files[-1]) as image:
        assert image.size[0] > 500
        # many shades, not one empty page
        assert len(image.convert("L").getcolors(256)) > 20
