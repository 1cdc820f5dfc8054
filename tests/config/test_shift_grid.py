"""Grids of shifted environments: what a file may contain, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_risk.config.loading import examples_root
from rllib_risk.config.schema import ConfigError
from rllib_risk.config.shift_grid import (
    apply_settings,
    is_shift_grid,
    parse_shift_grid,
)
from rllib_risk.config.yaml_reader import parse_yaml, read_yaml

GRID = """
episodes: 8
env_config: {bins: 21}
nominal: {season: out}
grid:
  city: [tucson, tampa]
  season:
    in: {day_range: [0, 200]}
    out: {day_range: [200, 365], sensor_sigma: 0.5}
"""


def parse(text):
    return parse_shift_grid(parse_yaml(text, "grid.yaml"), "grid")


def test_cells_are_all_combinations_with_the_last_axis_fastest():
    grid = parse(GRID)
    assert [cell.labels for cell in grid.cells] == [
        ("tucson", "in"),
        ("tucson", "out"),
        ("tampa", "in"),
        ("tampa", "out"),
    ]
    assert grid.cells[3].settings == {
        "bins": 21,
        "city": "tampa",
        "day_range": [200, 365],
        "sensor_sigma": 0.5,
    }
    assert grid.cells[0].settings.keys() == {"bins", "city", "day_range"}
    assert (grid.episodes, grid.seed, grid.metric) == (8, 0, "return")
    assert grid.cell_name(2) == "city=tampa, season=in"
    # the axis that `nominal` leaves out has its first value
    assert grid.nominal == 1


@pytest.mark.parametrize(
    ("nominal", "index"),
    [
        ("", 0),
        ("nominal: none", None),
        ("nominal: {cliff: -50}", 1),
        ("nominal: {cliff: -50.0}", 1),
        ("nominal: {wind: true, cliff: -50}", 3),
        ("nominal: {wind: [1, 2]}", 4),
    ],
)
def test_the_nominal_cell_is_found_by_value(nominal, index):
    text = f"{nominal}\ngrid: {{wind: [null, true, [1, 2]], cliff: [-100.0, -50.0]}}"
    grid = parse(text)
    assert grid.axes[0].labels == ("null", "true", "[1, 2]")
    assert grid.nominal == index


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_combination_once(sizes):
    axes = {f"a{i}": list(range(size)) for i, size in enumerate(sizes)}
    grid = parse(f"grid: {axes}")
    settings = [tuple(cell.settings.items()) for cell in grid.cells]
    product = 1
    for size in sizes:
        product *= size
    assert len(set(settings)) == len(settings) == product


def test_settings_replace_and_paths_reach_inside():
    base = {"factory": "m:f", "kwargs": {"wind": 0.1, "map": {"size": 3}}, "x": [1]}
    settings = {"kwargs.wind": 0.5, "kwargs.map.size": 4, "x": [2], "new.deep": 1}
    changed = apply_settings(base, settings)
    assert changed == {
        "factory": "m:f",
        "kwargs": {"wind": 0.5, "map": {"size": 4}},
        "x": [2],
        "new": {"deep": 1},
    }
    assert base["kwargs"] == {"wind": 0.1, "map": {"size": 3}}, "left as it was"
    changed["x"].append(3)
    assert settings["x"] == [2]
    # without a path a mapping is replaced as a whole
    assert apply_settings(base, {"kwargs": {"a": 1}})["kwargs"] == {"a": 1}
    with pytest.raises(ConfigError, match=r"factory\.x: 'factory' is 'm:f'"):
        apply_settings(base, {"factory.x": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("episodes: 3", "grid.yaml: 'grid' is missing"),
        ("grid: {}", "grid.yaml:1: grid: is empty"),
        ("grid: [1]", "grid.yaml:1: grid: must be a mapping"),
        ("grid: {a: [1]}\nepisode: 3", "grid.yaml:2: .*Did you mean 'episodes'"),
        ("grid: {a: [1]}\nepisodes: 0", "grid.yaml:2: episodes: must be in"),
        ("grid: {a: [1]}\nmetric: 3", "grid.yaml:2: metric: must be a text"),
        ("grid:\n  a: 3", "grid.yaml:2: a: must be a list of values, or a mapping"),
        ("grid:\n  a: []", "grid.yaml:2: a: must be a list"),
        ("grid:\n  a:\n  - 1\n  - 1", "grid.yaml:4: a: 1 is given twice"),
        ("grid:\n  a:\n  - {x: 1}", "grid.yaml:3: a: a set of keys needs a name"),
        ("grid:\n  a:\n    b: 1", "grid.yaml:3: a.b: must be keys of env_config"),
        ("grid:\n  a:\n    on: {x: 1}", "grid.yaml:2: .*reads this name as True"),
        ("grid:\n  a: [1]\n  b: {c: {a: 2}}", "grid.yaml:3: b: sets 'a', which .*'a'"),
        ("grid:\n  k: [{}]\n", "grid.yaml:2: k: a set of keys"),
        (
            "grid:\n  k.a: [1]\n  b: {c: {k: {}}}",
            "grid.yaml:3: b: sets 'k', which the axis 'k.a' also sets",
        ),
        ("grid: {a: [1]}\nnominal: x", "grid.yaml:2: nominal: must be a mapping"),
        ("grid: {a: [1]}\nnominal: {b: 1}", "grid.yaml:2: nominal: .*no axis 'b'"),
        ("grid: {a: [1]}\nnominal: {a: 2}", "grid.yaml:2: .*no value 2. Its values: 1"),
        (
            "grid: {a: &x [1,2,3,4,5,6,7,8,9,0], b: *x, c: *x, d: *x, e: [1, 2]}",
            "has 20000 cells, but at most 10000",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        # line numbers of GRID, whose first line is empty
        ("unknown key env_config.sensor_sigma", 9),
        ("city must be one of ...", 6),
        ("env_config.bins must be even", 3),
        ("something else", 5),
    ],
)
def test_an_error_of_a_cell_has_the_line_of_the_key_that_it_names(message, line):
    error = parse(GRID).error(3, message)
    assert str(error) == f"grid.yaml:{line}: cell city=tampa, season=out: {message}"


def test_grids_are_told_from_experiments():
    assert is_shift_grid({"grid": {"a": [1]}})
    assert is_shift_grid({"grid": None})
    assert not is_shift_grid({"grid": {"run": "VDN", "env": "macn"}})
    assert not is_shift_grid({"algorithms": {}})
    assert not is_shift_grid(None)


FILES = sorted((examples_root() / "shift").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_are_grids(file: Path):
    grid = parse_shift_grid(read_yaml(file), file.stem)
    # The nominal cell is the one of the training. It is the first cell, except for the
    # training wind of macn-wind and for full power, in the middle of its axis.
    assert grid.nominal == {"macn-wind": 1, "hvac-power-noise": 8}.get(file.stem, 0)
    assert len(grid.cells) > 4
    text = file.read_text()
    assert text.startswith("#")
    assert f"--shift tuned_examples/shift/{file.name}" in text


def test_there_are_examples():
    assert len(FILES) >= 3
