"""Imports by a map: every format and form gives back what was written."""

import numpy as np
import pytest
from log_files import (
    WIDE_MAP,
    WRITERS,
    long_map,
    long_rows,
    wide_rows,
    write_csv,
)

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.importing.importer import import_files
from rllib_risk.env_wrappers.scripted import reference_policies

PARTS = ("obs", "state", "action_mask", "actions", "rewards")


def uav_log(number=3, steps=6):
    config = TeamConfig().environment("uav", env_config={"episode_steps": steps})
    player = scripted_player(reference_policies("uav")["random"], 0.0)
    return list(record(config, [player], number, seed=0))


def log(lengths=(4, 1, 7), num_actions=4, seed=0):
    """Episodes with masks and both kinds of ends."""
    rng = np.random.default_rng(seed)
    found = []
    for number, length in enumerate(lengths):
        mask = rng.integers(0, 2, (length + 1, 2, num_actions)).astype(np.uint8)
        actions = rng.integers(0, num_actions, (length, 2)).astype(np.int16)
        np.put_along_axis(mask[:-1], actions[..., None].astype(int), 1, axis=2)
        mask[-1, :, 0] = 1
        found.append(
            Episode(
                obs=rng.normal(size=(length + 1, 2, 3)).astype(np.float32),
                state=rng.normal(size=(length + 1, 5)).astype(np.float32),
                action_mask=mask,
                actions=actions,
                rewards=rng.normal(size=length).astype(np.float32),
                terminated=number % 2 == 0,
                risk_levels=np.ones((length, 2), np.float32),
            )
        )
    return found


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for mine, other in zip(found, wanted, strict=True):
        for name in PARTS:
            left, right = getattr(mine, name), getattr(other, name)
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        assert mine.terminated == other.terminated


def imported(tmp_path, files, text, **keys):
    (tmp_path / "map.yaml").write_text(text)
    import_files(tmp_path / "out", files, tmp_path / "map.yaml", **keys)
    dataset = Dataset(tmp_path / "out")
    dataset.check()
    return list(dataset.episodes())


@pytest.mark.parametrize("kind", sorted(WRITERS))
@pytest.mark.parametrize("form", ["wide", "long"])
def test_every_format_and_form(tmp_path, kind, form):
    if kind == "h5":
        pytest.importorskip("h5py")
    episodes = log()
    rows = wide_rows(episodes) if form == "wide" else long_rows(episodes)
    file = WRITERS[kind](tmp_path / f"log.{kind}", rows)
    found = imported(tmp_path, [file], WIDE_MAP if form == "wide" else long_map(4))
    assert_same(found, episodes)


@pytest.mark.parametrize("form", ["wide", "long"])
def test_a_log_of_uavs(tmp_path, form):
    """55 actions, and numbers of 32 bits that go through texts."""
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
