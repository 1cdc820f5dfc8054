"""Datasets from elsewhere: the authors' CSV and OG-MARL's vaults."""

import json

import numpy as np
import pytest
import tensorstore
from log_files import csv_of

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data import og_marl
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.og_marl import import_vault
from rllib_risk.data.rows import DatasetError
from rllib_risk.env_wrappers.scripted import reference_policies
from rllib_risk.env_wrappers.uav.csv_log import import_csv


def uav_episodes(number=3):
    config = TeamConfig().environment("uav", env_config={"episode_steps": 7})
    player = scripted_player(reference_policies("uav")["random"], 0.0)
    return list(record(config, [player], number, seed=0))


def test_the_authors_csv(tmp_path):
    # The log starts in the middle of an episode, as a share of rows may.
    written = uav_episodes()
    source = csv_of(tmp_path / "data.csv", written, start=3)
    card = import_csv(source, tmp_path / "out", {"episode_steps": 7})
    assert (card.env, card.num_episodes, card.num_steps) == ("uav", 3, 18)
    assert card.agents == ("uav_0", "uav_1")
    found = list(Dataset(tmp_path / "out").episodes())
    for one, other in zip(found[1:], written[1:], strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.obs, other.obs)
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.rewards, other.rewards)
        assert not one.terminated
    np.testing.assert_array_equal(found[0].state, written[0].state[3:])


def test_rows_that_do_not_follow_are_other_episodes(tmp_path):
    first = uav_episodes(1)[0]
    path = csv_of(tmp_path / "data.csv", [first])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:3] + lines[5:]) + "\n")  # two rows are missing
    import_csv(path, tmp_path / "out", {"episode_steps": 7})
    assert [len(e) for e in Dataset(tmp_path / "out").episodes()] == [2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace(",", ";"),
            "has 1 columns, but this env_config needs 33",
        ),
        (lambda text: "a,b\n1,2\n", "has 2 columns"),
        (lambda text: text[: len(text) // 2], "cannot be read|columns"),
        (
            lambda text: text.replace(",0.0\n", ",x\n", 1),
            r"column 32: .* not a number at or below line \d+, which has 'x'",
        ),
    ],
)
def test_another_csv_is_refused(tmp_path, change, message):
    path = csv_of(tmp_path / "data.csv", uav_episodes(1))
    path.write_text(change(path.read_text()))
    with pytest.raises(DatasetError, match=message):
        import_csv(path, tmp_path / "out", {})


def set_cell(text, line, column, value):
    rows = [row.split(",") for row in text.splitlines()]
    rows[line - 1][column] = value
    return "\n".join(",".join(row) for row in rows) + "\n"


@pytest.mark.parametrize(
    ("line", "column", "value", "message"),
    [
        (4, 15, "99.0", "line 4, column 15: 99 is not an action; actions are 0 to 54"),
        (3, 16, "-1.0", "line 3, column 16: -1 is not an action"),
        (3, 16, "1.5", "line 3, column 16: 1.5 is not an action"),
        (5, 17, "nan", "line 5, column 17: nan is not a finite number"),
        (5, 2, "1e300", r"line 5, column 2: 1e\+300 is not a finite number"),
        (2, 3, "", "line 2, column 3: nan is not a finite number"),
        (6, 32, "0.5", "line 6, column 32: 0.5 is not an end"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_line_and_column(
    tmp_path, line, column, value, message
):
    path = csv_of(tmp_path / "data.csv", uav_episodes(1))
    path.write_text(set_cell(path.read_text(), line, column, value))
    with pytest.raises(DatasetError, match=rf"data\.csv, {message}"):
        import_csv(path, tmp_path / "out", {"episode_steps": 7})
    assert not (tmp_path / "out").exists()


def test_a_csv_of_other_sizes_names_the_arguments(tmp_path):
    path = csv_of(tmp_path / "data.csv", uav_episodes(1))
    with pytest.raises(DatasetError, match="33 columns, but this env_config needs 38"):
        import_csv(path, tmp_path / "out", {"num_uavs": 3})
    with pytest.raises(DatasetError, match=r"env_config: .*num_uav"):
        import_csv(path, tmp_path / "out", {"num_uav": 2})


# Vaults

N, A, D, S = 2, 5, 3, 4


def arrays(steps, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(1, steps, N, D)).astype(np.float32),
        "actions": rng.integers(0, A, (1, steps, N)).astype(np.int32),
        "rewards": rng.normal(size=(1, steps, 1)).repeat(N, 2).astype(np.float32),
        "terminals": np.zeros((1, steps, N), bool),
        "truncations": np.zeros((1, steps, N), bool),
        "infos": {
            "state": rng.normal(size=(1, steps, S)).astype(np.float32),
            "legals": np.ones((1, steps, N, A), bool),
        },
    }


def make_vault(folder, tree, index=None):
    """Writes a vault in the layout of Flashbax 0.1.3: zarr arrays in an OCDBT store."""
    folder.mkdir(parents=True)

    def write(name, array, room):
        store = {"driver": "ocdbt", "base": f"file://{folder}", "path": name}
        spec = {
            "driver": "zarr",
            "kvstore": store,
            "metadata": {"compressor": {"id": "gzip", "level": 5}},
        }
        dtype = array.dtype.name
        opened = tensorstore.open(spec, shape=room, dtype=dtype, create=True).result()
        where = tuple(slice(0, size) for size in array.shape)
        opened[where].write(array).result()

    shapes = {}

    def walk(tree, path, shapes):
        for key, value in tree.items():
            if isinstance(value, dict):
                walk(value, f"{path}{key}.", shapes.setdefault(key, {}))
            else:
                shapes[key] = str(value.shape)
                write(
                    f"{path}{key}.", value, (value.shape[0], 10**13, *value.shape[2:])
                )

    walk(tree, "", shapes)
    steps = tree["actions"].shape[1] if index is None else index
    write("vault_index", np.array([steps], np.int32), (1,))
    (folder / "metadata.json").write_text(
        json.dumps({"version": 1.2, "structure_shape": shapes})
    )
    return folder


@pytest.mark.parametrize("rows", [10_000, 2, 3])
def test_a_vault(tmp_path, monkeypatch, rows):
    """Three steps to a true end, four to a time limit, two of an unfinished episode."""
    monkeypatch.setattr(og_marl, "_ROWS", rows)
    tree = arrays(9)
    tree["terminals"][0, 2] = tree["truncations"][0, 6] = True
    tree["infos"]["legals"][0, 1, 0, 4] = False
    vault = make_vault(tmp_path / "smac" / "Good", tree)
    card = import_vault(vault, tmp_path / "out", "smac", {"map_name": "3m"})
    assert (card.env, card.env_config) == ("smac", {"map_name": "3m"})
    assert card.behaviour["imported"] == "smac/Good"
    ended, cut, unfinished = Dataset(tmp_path / "out").episodes()
    obs, state = tree["observations"][0], tree["infos"]["state"][0]
    # Zeros follow a true end. Other episodes lose their last step, which only gives
    # the observation that followed.
    assert [len(e) for e in (ended, cut, unfinished)] == [3, 3, 1]
    assert [e.terminated for e in (ended, cut, unfinished)] == [True, False, False]
    np.testing.assert_array_equal(ended.obs, [*obs[:3], np.zeros((N, D))])
    np.testing.assert_array_equal(ended.state, [*state[:3], np.zeros(S)])
    np.testing.assert_array_equal(cut.obs, obs[3:7])
    np.testing.assert_array_equal(unfinished.obs, obs[7:9])
    np.testing.assert_array_equal(cut.actions, tree["actions"][0, 3:6])
    np.testing.assert_array_equal(ended.rewards, tree["rewards"][0, :3, 0])
    assert ended.action_mask[1, 0].tolist() == [1, 1, 1, 1, 0]
    assert ended.action_mask[3].tolist() == [[1, 0, 0, 0, 0]] * 2


def test_a_vault_of_several_slices_without_state_and_masks(tmp_path):
    one, two = arrays(4, seed=1), arrays(4, seed=2)
    tree = {
        key: np.concatenate([one[key], two[key]])
        for key in ("observations", "actions", "rewards", "terminals")
    }
    tree["actions"][0, 1, 1] = A - 1
    tree["terminals"][:, 3] = True
    vault = make_vault(tmp_path / "vault", tree)
    card = import_vault(vault, tmp_path / "out", None, {})
    assert (card.sizes.num_actions, card.sizes.state_size) == (A, 0)
    found = list(Dataset(tmp_path / "out").episodes())
    assert [len(e) for e in found] == [4, 4]
    np.testing.assert_array_equal(found[1].obs[:4], two["observations"][0])


def test_only_what_was_written_is_read(tmp_path):
    vault = make_vault(tmp_path / "vault", arrays(9), index=5)
    assert import_vault(vault, tmp_path / "out", None, {}).num_steps == 4


def test_rewards_of_a_team(tmp_path):
    tree = arrays(4)
    tree["rewards"][0, :, 1] += 1.0
    vault = make_vault(tmp_path / "vault", tree)
    with pytest.raises(DatasetError, match="different rewards; choose --team-reward"):
        import_vault(vault, tmp_path / "out", None, {})
    for kind, reduce in (("sum", np.sum), ("mean", np.mean)):
        folder = tmp_path / kind
        import_vault(vault, folder, None, {}, kind)
        (found,) = Dataset(folder).episodes()
        wanted = reduce(tree["rewards"][0, :3], axis=1)
        np.testing.assert_allclose(found.rewards, wanted, rtol=1e-6)


def test_no_vault(tmp_path):
    with pytest.raises(DatasetError, match=r"is no vault: its metadata\.json"):
        import_vault(tmp_path, tmp_path / "out", None, {})
    tree = arrays(4)
    del tree["rewards"]
    vault = make_vault(tmp_path / "vault", tree)
    with pytest.raises(DatasetError, match="has no rewards"):
        import_vault(vault, tmp_path / "out", None, {})
    tree = arrays(4)
    tree["actions"] = tree["actions"].astype(np.float32)
    vault = make_vault(tmp_path / "floats", tree)
    with pytest.raises(DatasetError, match="not one number per agent"):
        import_vault(vault, tmp_path / "out", None, {})


def put(name, place, value):
    def change(tree):
        tree = tree["infos"] if name == "legals" else tree
        tree[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("actions", (0, 3, 1), 99), "slice 0, step 3, actions: holds 99"),
        (put("actions", (0, 4, 0), -1), "step 4, actions: holds -1"),
        (put("rewards", (0, 5), np.nan), "step 5, rewards: holds nan"),
        (put("observations", (0, 2, 0, 1), np.inf), "step 2, observations: holds inf"),
        (put("legals", (0, 6, 1), False), "step 6, infos.legals: an agent has no"),
    ],
)
def test_a_value_that_cannot_be_in_a_vault(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(og_marl, "_ROWS", 2)
    tree = arrays(9)
    change(tree)
    vault = make_vault(tmp_path / "vault", tree)
    with pytest.raises(DatasetError, match=message):
        import_vault(vault, tmp_path / "out", None, {})


def test_an_action_that_a_vault_does_not_allow(tmp_path):
    tree = arrays(9)
    tree["infos"]["legals"][0, 6, 1, tree["actions"][0, 6, 1]] = False
    vault = make_vault(tmp_path / "vault", tree)
    with pytest.raises(DatasetError, match=r"step 6, actions: .* does not allow"):
        import_vault(vault, tmp_path / "out", None, {})


def test_odd_metadata_and_lengths_of_a_vault(tmp_path):
    (tmp_path / "metadata.json").write_text('{"structure_shape": [1]}')
    with pytest.raises(DatasetError, match="is no vault"):
        import_vault(tmp_path, tmp_path / "out", None, {})
    tree = arrays(4)
    tree["rewards"] = np.concatenate([tree["rewards"]] * 2)
    vault = make_vault(tmp_path / "vault", tree)
    with pytest.raises(DatasetError, match="rewards has shape"):
        import_vault(vault, tmp_path / "other", None, {})
