"""Datasets of joint steps: the round trip, streaming, and what is refused."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.core.episodes import Episode
from rllib_risk.offline import dataset as dataset_module
from rllib_risk.offline.card import CARD, read_card
from rllib_risk.offline.dataset import Dataset, write_dataset
from rllib_risk.offline.rows import DatasetError, episodes_of, to_table

PARTS = ("obs", "state", "action_mask", "actions", "rewards")


def episode(number, length, *, terminated=False, state_size=3, obs_size=4):
    rng = np.random.default_rng(number)
    return Episode(
        obs=rng.normal(size=(length + 1, 2, obs_size)).astype(np.float32),
        state=rng.normal(size=(length + 1, state_size)).astype(np.float32),
        action_mask=rng.integers(0, 2, (length + 1, 2, 5)).astype(np.uint8),
        actions=rng.integers(0, 5, (length, 2)).astype(np.int16),
        rewards=rng.normal(size=length).astype(np.float32),
        terminated=terminated,
        risk_levels=np.ones((length, 2), np.float32),
    )


def write(folder, episodes, **keys):
    facts = {
        "env": "uav",
        "env_config": {"num_uavs": 2},
        "agents": ["uav_0", "uav_1"],
        "behaviour": {"policy": "greedy"},
        "seed": 3,
    }
    return write_dataset(folder, episodes, **facts | keys)


def assert_same(mine, other):
    for name in PARTS:
        left, right = getattr(mine, name), getattr(other, name)
        assert left.dtype == right.dtype, name
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert mine.terminated == other.terminated


@settings(max_examples=40, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    group_bytes=st.integers(1, 4000),
    rows_per_shard=st.integers(1, 30),
    state_size=st.sampled_from([0, 3]),
)
def test_round_trip(tmp_path_factory, lengths, group_bytes, rows_per_shard, state_size):
    folder = tmp_path_factory.mktemp("dataset")
    written = [
        episode(n, length, terminated=n % 2 == 0, state_size=state_size)
        for n, length in enumerate(lengths)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset_module, "BYTES_PER_GROUP", group_bytes)
        card = write(folder, iter(written), rows_per_shard=rows_per_shard)
        found = list(Dataset(folder).episodes())
    assert card == read_card(folder)
    assert card.num_episodes == len(lengths) and card.num_steps == sum(lengths)
    for mine, other in zip(found, written, strict=True):
        assert_same(mine, other)


def test_the_card(tmp_path):
    episodes = [episode(n, 4) for n in range(6)]
    card = write(tmp_path, episodes, rows_per_shard=10)
    assert [shard.rows for shard in card.shards] == [12, 12]
    returns = [e.episode_return for e in episodes]
    assert card.returns == {
        "mean": pytest.approx(np.mean(returns)),
        "std": pytest.approx(np.std(returns)),
        "min": min(returns),
        "max": max(returns),
    }
    written = json.loads((tmp_path / CARD).read_text())
    assert written["agents"] == ["uav_0", "uav_1"]
    assert written["sizes"] == {
        "num_agents": 2,
        "num_actions": 5,
        "obs_size": 4,
        "state_size": 3,
    }
    assert written["behaviour"] == {"policy": "greedy"}
    # The same data have the same hash, other data another one.
    again = write(tmp_path / "again", episodes, rows_per_shard=10)
    other = write(tmp_path / "other", episodes[::-1], rows_per_shard=10)
    assert again.content_hash == card.content_hash != other.content_hash


def test_the_rows_by_hand():
    table = to_table([episode(0, 2, terminated=True), episode(1, 1)], ["a", "b"])
    assert table.column("eps_id").to_pylist() == ["a", "a", "b"]
    assert table.column("t").to_pylist() == [0, 1, 0]
    assert table.column("terminateds").to_pylist() == [
        [False, False],
        [True, True],
        [False, False],
    ]
    assert table.column("truncateds").to_pylist() == [
        [False, False],
        [False, False],
        [True, True],
    ]
    rewards = np.array(table.column("rewards").to_pylist())
    np.testing.assert_array_equal(rewards[:, 0], rewards[:, 1])
    obs, new_obs = (table.column(name).to_pylist() for name in ("obs", "new_obs"))
    assert obs[1] == new_obs[0] and np.shape(obs[0]) == (2, 4)
    assert "state" not in to_table([episode(0, 1, state_size=0)], ["a"]).column_names


def test_shards_in_any_order(tmp_path):
    written = [episode(n, 3) for n in range(6)]
    write(tmp_path, written, rows_per_shard=6)
    found = list(Dataset(tmp_path).episodes([2, 0]))
    for mine, other in zip(found, [*written[4:], *written[:2]], strict=True):
        assert_same(mine, other)


def damaged(folder, edit):
    """A dataset of two shards, opened and read after an edit of its folder."""
    write(folder, [episode(n, 5) for n in range(4)], rows_per_shard=10)
    edit(folder)
    return list(Dataset(folder).episodes())


def cut(folder):
    path = folder / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def turn_a_bit(folder):
    path = folder / "part-00001.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def replace_a_shard(folder, rows=None, **keys):
    episodes = [episode(n, 5, **keys) for n in range(2)]
    table = to_table(episodes, ["x", "y"]) if rows is None else rows
    pq.write_table(table, folder / "part-00001.parquet", compression="zstd")


def change_the_card(folder, **values):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | values))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (shutil.rmtree, "there is no dataset at"),
        (lambda f: (f / CARD).unlink(), "is no dataset: it holds no dataset.json"),
        (lambda f: (f / CARD).write_text("{"), "dataset.json cannot be read"),
        (lambda f: (f / CARD).write_text("{}"), "dataset.json is not whole"),
        (lambda f: change_the_card(f, version=9), "has format 9"),
        (lambda f: change_the_card(f, shards=[]), "content_hash is not that of its"),
        (
            lambda f: (f / "part-00000.parquet").unlink(),
            "part-00000.parquet is missing",
        ),
        (cut, "part-00001.parquet is cut short or broken"),
        (turn_a_bit, "part-00001.parquet was changed or is damaged"),
        (replace_a_shard, "part-00001.parquet was changed or is damaged"),
        (lambda f: replace_a_shard(f, obs_size=7), "other columns or shapes"),
        (
            lambda f: replace_a_shard(f, to_table([episode(0, 3)], ["x"])),
            "holds 3 rows, and the card says 10",
        ),
    ],
)
def test_damage_is_refused(tmp_path, edit, message):
    with pytest.raises(DatasetError, match=message):
        damaged(tmp_path / "data", edit)


def rows_with(**columns):
    table = to_table([episode(0, 3)], ["a"])
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        kind = table.schema.field(name)
        table = table.set_column(index, kind, pa.array(values, kind.type))
    return table


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": [0, 2, 3]}, "not in the order of t"),
        ({"t": [2, 1, 0]}, "not in the order of t"),
        ({"terminateds": [[True, True]] * 3}, "goes on after it terminated"),
        ({"rewards": [[0, 0], [0, np.nan], [0, 0]]}, r"rewards.*NaN.*'a', t 1"),
    ],
)
def test_rows_that_make_no_episode(columns, message):
    with pytest.raises(DatasetError, match=message):
        list(episodes_of([rows_with(**columns)]))


def test_a_taken_folder_is_left_alone(tmp_path):
    write(tmp_path, [episode(0, 2)])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="is not empty"):
        write(tmp_path, [episode(1, 2)])
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match="there is no episode"):
        write(tmp_path / "new", [])
