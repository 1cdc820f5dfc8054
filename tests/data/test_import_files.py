"""Imports by a map: every format and form gives back what was written."""

import pytest
from log_files import (
    WIDE_MAP,
    WRITERS,
    assert_same,
    imported,
    log,
    long_map,
    long_rows,
    uav_log,
    wide_rows,
    write_csv,
)


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("form", ["wide", "long"])
def test_every_format_and_form(tmp_path, kind, form):
    if kind == "h5":
        pytest.importorskip("h5py", reason="needs rllib-risk[hdf5]")
    episodes = log()
    rows = wide_rows(episodes) if form == "wide" else long_rows(episodes)
    file = WRITERS[kind](tmp_path / f"log.{kind}", rows)
    found = imported(tmp_path, [file], WIDE_MAP if form == "wide" else long_map(4))
    assert_same(found, episodes)


@pytest.mark.parametrize("form", ["wide", "long"])
def test_a_log_of_uavs(tmp_path, form):
    """55 actions, and 32-bit numbers that are written as text."""
    episodes = uav_log()
    rows = wide_rows(episodes) if form == "wide" else long_rows(episodes)
    file = write_csv(tmp_path / "log.csv", rows)
    found = imported(tmp_path, [file], WIDE_MAP if form == "wide" else long_map(55))
    assert_same(found, episodes)


def test_semicolons_and_decimal_commas(tmp_path):
    episodes = log()
    file = write_csv(tmp_path / "log.csv", wide_rows(episodes), ";", ",")
    text = WIDE_MAP + 'separator: ";"\ndecimal: ","\n'
    assert_same(imported(tmp_path, [file], text), episodes)
