"""Datasets of joint steps: the round trip, streaming, and what is refused."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_risk.data import dataset as dataset_module
from rllib_risk.data.card import CARD, file_hash, read_card
from rllib_risk.data.dataset import Dataset, write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.rows import DatasetError, episodes_of, to_table

PARTS = ("obs", "state", "action_mask", "actions", "rewards")


def episode(number, length, *, terminated=False, state_size=3, obs_size=4):
    rng = np.random.default_rng(number)
    action_mask = rng.integers(0, 2, (length + 1, 2, 5)).astype(np.uint8)
    actions = rng.integers(0, 5, (length, 2)).astype(np.int16)
    # The actions taken are available, and so is action 0 after the last step.
    np.put_along_axis(action_mask[:-1], actions[..., None].astype(int), 1, axis=2)
    action_mask[-1, :, 0] = 1
    return Episode(
        obs=rng.normal(size=(length + 1, 2, obs_size)).astype(np.float32),
        state=rng.normal(size=(length + 1, state_size)).astype(np.float32),
        action_mask=action_mask,
        actions=actions,
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
    # Equal data have equal hashes, different data different ones.
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
    """Writes a dataset of two shards, edits its folder and reads it."""
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


def link_a_shard(folder):
    path = folder / "part-00001.parquet"
    outside = folder.parent / "outside.parquet"
    path.rename(outside)
    path.symlink_to(outside)


def name_a_shard(folder, file):
    """Renames a shard in the card, with matching hashes."""
    card = read_card(folder)
    first, second = card.shards
    changed = replace(card, shards=(first, replace(second, file=file)))
    (folder / CARD).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rllib_risk.data.card._wrong_value", lambda card: None)
        changed.write(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (shutil.rmtree, "there is no dataset at"),
        (lambda f: (f / CARD).unlink(), "is no dataset: it holds no dataset.json"),
        (lambda f: (f / CARD).write_text("{"), "dataset.json cannot be read"),
        (lambda f: (f / CARD).write_text("[" * 9999), "dataset.json cannot be read"),
        (lambda f: (f / CARD).write_text("{}"), "dataset.json is not whole"),
        (lambda f: (f / CARD).write_text("3"), "dataset.json is not whole"),
        (lambda f: change_the_card(f, version=9), "has format 9"),
        # The card contains its own checksum.
        (lambda f: change_the_card(f, shards=[]), "its card_hash does not match"),
        (lambda f: change_the_card(f, env="macn"), "its card_hash does not match"),
        (lambda f: change_the_card(f, card_hash="0"), "its card_hash does not match"),
        # Files outside of the folder are not read.
        (lambda f: name_a_shard(f, "../x.parquet"), "no name of a file in the folder"),
        (lambda f: name_a_shard(f, "/x.parquet"), "no name of a file in the folder"),
        (lambda f: name_a_shard(f, ".."), "no name of a file"),
        (link_a_shard, "is a link to .*outside of the folder"),
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
            "holds 3 rows, but the card says 10",
        ),
    ],
)
def test_damage_is_refused(tmp_path, edit, message):
    with pytest.raises(DatasetError, match=message):
        damaged(tmp_path / "data", edit)


def test_a_card_without_a_hash_is_of_the_first_format(tmp_path):
    """Datasets of version 0.1 load without a hash; later cards need one."""
    write(tmp_path, [episode(0, 3)])
    values = json.loads((tmp_path / CARD).read_text())
    del values["card_hash"]
    (tmp_path / CARD).write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=r"not whole.*card_hash"):
        Dataset(tmp_path)
    (tmp_path / CARD).write_text(json.dumps(values | {"version": 1}))
    dataset = Dataset(tmp_path)
    dataset.check()
    assert not dataset.card.is_hashed


def rows_with(**columns):
    table = to_table([episode(0, 3)], ["a"])
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        kind = table.schema.field(name)
        table = table.set_column(index, kind, pa.array(values, kind.type))
    return table


FALSE, TRUE, ONES = [False, False], [True, True], [[1] * 5] * 2
OPEN = {"action_mask": [ONES] * 3, "new_action_mask": [ONES] * 3}
WRONG_ROWS = [
    ({"t": [0, 2, 3]}, "row 1, column t: holds 2 instead of 1"),
    ({"t": [1, 2, 3]}, "row 0, column t: holds 1 instead of 0"),
    ({"t": [-1, 0, 1]}, "row 0, column t: holds -1"),
    ({"terminateds": [TRUE] * 3}, "row 0, column terminateds: the episode goes on"),
    ({"truncateds": [FALSE] * 3}, "row 2, column truncateds: .* rows are missing"),
    ({"terminateds": [FALSE, FALSE, [True, False]]}, "row 2, column terminateds: diff"),
    ({"terminateds": [FALSE, FALSE, TRUE]}, "row 2, column truncateds: an episode can"),
    ({"rewards": [[0, 0], [0, np.nan], [0, 0]]}, r"row 1, column rewards: .*NaN.*t 1"),
    ({"rewards": [[0, 0], [0, 0], [0, 1]]}, "row 2, column rewards: differs"),
    (
        {**OPEN, "actions": [[0, 1], [0, 99], [0, 0]]},
        "row 1, column actions: holds 99,",
    ),
    ({**OPEN, "actions": [[0, 1], [0, 1], [-1, 0]]}, "row 2, column actions: holds -1"),
    ({**OPEN, "actions": [[70000, 1]] * 3}, "row 0, column actions: holds 70000,"),
    (
        {"action_mask": [ONES, [[0] * 5, [1] * 5], ONES]},
        "row 1, column action_mask: leaves an agent without an action",
    ),
    (
        {"action_mask": [ONES, [[3] * 5, [1] * 5], ONES]},
        "row 1, column action_mask: holds 3, and a mask holds 0 and 1",
    ),
    (
        {"new_action_mask": [ONES, ONES, [[0] * 5] * 2]},
        "row 2, column new_action_mask: leaves an agent",
    ),
    (
        {**OPEN, "action_mask": [[[0, 1, 1, 1, 1]] * 2] * 3, "actions": [[0, 1]] * 3},
        "row 0, column actions: holds 0, which action_mask does not allow",
    ),
    ({"new_obs": [[[0] * 4] * 2] * 3}, "row 0, column new_obs: is not the obs of"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_ROWS)
def test_rows_that_cannot_be(columns, message):
    with pytest.raises(DatasetError, match=message):
        list(episodes_of([rows_with(**columns)]))


@pytest.mark.parametrize("cut", [1, 2])
def test_a_row_is_counted_over_all_groups_of_a_file(cut):
    table = rows_with(**OPEN, actions=[[0, 1], [0, 1], [7, 1]])
    with pytest.raises(DatasetError, match="row 2, column actions: holds 7,"):
        list(episodes_of([table[:cut], table[cut:]]))


def test_check_reads_what_training_reads_and_more(tmp_path):
    """Training refuses wrong rows; `check` also compares names and statistics."""
    episodes = [episode(n, 5) for n in range(2)]
    write(tmp_path, episodes)
    Dataset(tmp_path).check()
    pq.write_table(to_table(episodes, ["x", "y"]), tmp_path / "more.parquet")
    with pytest.raises(DatasetError, match=r"more\.parquet is not named by the card"):
        Dataset(tmp_path).check()
    (tmp_path / "more.parquet").unlink()
    card = read_card(tmp_path)
    replace(card, returns={**card.returns, "max": 99.0}).write(tmp_path)
    with pytest.raises(DatasetError, match=r"max of the returns is .* says 99"):
        Dataset(tmp_path).check()
    path = tmp_path / card.shards[0].file
    pq.write_table(to_table([*episodes, episode(2, 5)], ["x", "y", "x"]), path)
    shard = replace(card.shards[0], rows=15, episodes=3, sha256=file_hash(path))
    replace(card, num_episodes=3, num_steps=15, shards=(shard,)).write(tmp_path)
    list(Dataset(tmp_path).episodes())
    with pytest.raises(DatasetError, match="'x' is the name of two episodes"):
        Dataset(tmp_path).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((3, 2, 4), np.float32)}, r"obs has shape \(3, 2, 4\)"),
        ({"rewards": np.zeros(2, np.float32)}, r"obs has shape .*with 2 steps"),
        ({"state": np.full((4, 3), np.inf, np.float32)}, "column state: .*infinity"),
        ({"actions": np.full((3, 2), 5, np.int16)}, "column actions: holds 5"),
    ],
)
def test_episodes_that_cannot_be_are_not_written(tmp_path, change, message):
    folder = tmp_path / "data"
    with pytest.raises(DatasetError, match=message):
        write(folder, [episode(0, 3), replace(episode(1, 3), **change)])
    assert not folder.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args, **keys):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(dataset_module.pq, "write_table", full)
    folder = tmp_path / "data"
    with pytest.raises(DatasetError, match=r"data cannot be written to: .*No space"):
        write(folder, [episode(0, 3)])
    assert not folder.exists()


def test_a_taken_folder_is_left_alone(tmp_path):
    write(tmp_path, [episode(0, 2)])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="is not empty"):
        write(tmp_path, [episode(1, 2)])
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match="there is no episode"):
        write(tmp_path / "new", [])
