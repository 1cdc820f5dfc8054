"""The meaning of a map's keys, on logs worked by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_files import (
    WIDE_MAP,
    WRITERS,
    assert_same,
    imported,
    log,
    long_map,
    long_rows,
    wide_rows,
    write_csv,
)

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.importing import array_files, csv_files, json_lines
from rllib_risk.data.importing.importer import import_files
from rllib_risk.data.rows import DatasetError

# Two agents: a and b are their observations, u and v their actions.
HEAD = "ep,t,a,b,u,v,r,done,cut\n"
LOG = (
    "x,0,1,10,0,1,0.5,0,0\n"
    "x,1,2,20,1,1,1.5,1,0\n"
    "y,0,3,30,0,0,2.0,0,0\n"
    "y,1,4,40,1,0,3.0,0,1\n"
)
MAP = """\
form: wide
agents: [left, right]
observation: ["{agent}_o"]
action: {columns: "{agent}_u", count: 2}
reward: r
episode: ep
time: t
terminated: done
truncated: cut
"""
LONG_MAP = """\
form: long
agents: [left, right]
agent: who
observation: o
action: {columns: u, count: 2}
reward: {columns: r, team: sum}
episode: ep
time: t
end: terminated
"""
NAMES = HEAD.replace("a,b,u,v", "left_o,right_o,left_u,right_u")


def read(tmp_path, text, head=NAMES, rows=LOG, name="log.csv"):
    (tmp_path / name).write_text(head + rows)
    return imported(tmp_path, [tmp_path / name], text)


def test_without_the_last_observation(tmp_path):
    """Zeros follow a true end; an episode that was cut off loses its last step."""
    ended, cut = read(tmp_path, MAP)
    np.testing.assert_array_equal(ended.obs[..., 0], [[1, 10], [2, 20], [0, 0]])
    np.testing.assert_array_equal(ended.actions, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(ended.rewards, [0.5, 1.5])
    np.testing.assert_array_equal(ended.action_mask[:2], np.ones((2, 2, 2)))
    assert ended.terminated and not cut.terminated
    np.testing.assert_array_equal(cut.obs[..., 0], [[3, 30], [4, 40]])
    np.testing.assert_array_equal(cut.actions, [[0, 0]])
    np.testing.assert_array_equal(cut.rewards, [2.0])


def test_report_counts_cut_steps_and_missing_flags(tmp_path):
    """The report counts cut steps, episodes of one row, and ends without a flag."""
    rows = LOG + "z,0,5,50,1,1,1.0,0,1\n" + "w,0,6,60,1,1,1.0,0,0\n"
    rows += "w,1,7,70,1,1,1.0,0,0\n"
    (tmp_path / "log.csv").write_text(NAMES + rows)
    (tmp_path / "map.yaml").write_text(MAP)
    files = [tmp_path / "log.csv"]
    card, report = import_files(tmp_path / "out", files, tmp_path / "map.yaml")
    assert card.num_episodes == 3
    assert (report.shortened, report.left_out, report.unflagged) == (2, 1, 1)


@pytest.mark.parametrize(("end", "steps"), [("terminated", 2), ("truncated", 1)])
def test_the_meaning_of_an_end_without_flags(tmp_path, end, steps):
    text = MAP.replace("terminated: done\ntruncated: cut", f"end: {end}")
    for episode in read(tmp_path, text):
        assert (episode.terminated, len(episode)) == (end == "terminated", steps)


def test_a_flag_of_a_cut_beats_the_usual_end(tmp_path):
    text = MAP.replace("terminated: done", "end: terminated")
    assert [e.terminated for e in read(tmp_path, text)] == [True, False]


def test_a_log_that_stops_within_an_episode_has_not_terminated_it(tmp_path):
    """Without names of episodes, the rows after the last flag are cut off."""
    rows = LOG.replace("1,1,1.5,1,0", "1,1,1.5,0,1")
    rows = rows.replace("1,0,3.0,0,1", "1,0,3.0,0,0")
    text = MAP.replace("episode: ep\ntime: t\nterminated: done", "end: terminated")
    first, last = read(tmp_path, text, rows=rows)
    assert (first.terminated, last.terminated) == (False, False)
    # Nothing follows the last row of either, so that its step is left out.
    assert (len(first), len(last)) == (1, 1)


def test_flags_alone_say_where_episodes_end(tmp_path):
    text = MAP.replace("episode: ep\ntime: t\n", "")
    one, other = read(tmp_path, text)
    np.testing.assert_array_equal(one.obs[:2, :, 0], [[1, 10], [2, 20]])
    np.testing.assert_array_equal(other.obs[..., 0], [[3, 30], [4, 40]])


def test_files_that_count_their_own_episodes(tmp_path):
    """`per_file`: names hold within a file; without a column a file is an episode."""
    files = [tmp_path / "logs" / f"{n}.csv" for n in range(2)]
    files[0].parent.mkdir()
    for file in files:
        file.write_text(NAMES + LOG)
    with pytest.raises(DatasetError, match=r"1\.csv, line 2, .*'x' was there before"):
        imported(tmp_path, [tmp_path / "logs"], MAP)
    text = MAP.replace("episode: ep", "episode: {column: ep, per_file: true}")
    found = imported(tmp_path, [tmp_path / "logs"], text)
    assert [len(e) for e in found] == [2, 1, 2, 1]
    for file in files:
        file.write_text(NAMES + LOG[: len(LOG) // 2])
    text = MAP.replace("episode: ep", "episode: {per_file: true}")
    (tmp_path / "pattern").mkdir()
    found = imported(tmp_path / "pattern", [tmp_path / "logs" / "*.csv"], text)
    assert [len(e) for e in found] == [2, 2]


@pytest.mark.parametrize(
    ("team", "wanted"), [("sum", [3.5, 1.5]), ("mean", [1.75, 0.75])]
)
def test_rewards_of_agents(tmp_path, team, wanted):
    text = MAP.replace("reward: r", f'reward: {{columns: "{{agent}}_r", team: {team}}}')
    head = NAMES.replace(",r,", ",left_r,right_r,")
    rows = "x,0,1,10,0,1,0.5,3,0,0\nx,1,2,20,1,1,1.5,0,1,0\n"
    (episode,) = read(tmp_path, text, head, rows)
    np.testing.assert_array_equal(episode.rewards, wanted)
    shared = text.replace(f"team: {team}", "team: shared")
    (tmp_path / "b").mkdir()
    with pytest.raises(
        DatasetError, match=r"line 2, column 'right_r': differs between"
    ):
        read(tmp_path / "b", shared, head, rows)


@pytest.mark.parametrize("form", ["wide", "long"])
def test_a_sum_of_rewards_that_32_bits_cannot_hold_is_refused(tmp_path, form):
    head, rows = "ep,t,who,o,u,r\n", "x,0,right,1,0,-2e38\nx,0,left,1,0,-3e38\n"
    text = LONG_MAP
    where = "line 3, column 'r'"
    if form == "wide":
        head, rows = NAMES.replace(",r,", ",left_r,right_r,"), LOG
        rows = rows.replace(",1.5,", ",1.5,1.5,").replace(",2.0,", ",-3e38,-2e38,")
        rows = rows.replace(",0.5,", ",0.5,0.5,").replace(",3.0,", ",3.0,3.0,")
        text = MAP.replace("reward: r", 'reward: {columns: "{agent}_r", team: sum}')
        where = "line 4, column 'left_r'"
    message = rf"log\.csv, {where}: the sum of the agents' rewards, -5e\+38, does not"
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, text, head, rows)


def test_an_action_that_64_bits_cannot_hold_is_refused(tmp_path):
    rows = LOG.replace("y,0,3,30,0,0", "y,0,3,30,0,1e30")
    message = r"line 4, column 'right_u': 1e\+30 is no action; they go from 0 to 1"
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, MAP, rows=rows)


@pytest.mark.parametrize(
    ("kind", "times", "gap"),
    [
        (np.int64, [-(2**63), 2**63 - 1], r"1\.84467e\+19"),
        (np.uint64, [2**63 - 2**12, 2**63 + 2**12], "8192"),
    ],
)
def test_times_that_int64_or_their_difference_cannot_hold(tmp_path, kind, times, gap):
    arrays = {"left_o": [1, 2], "right_o": [1, 2], "left_u": [0, 1], "right_u": [1, 1]}
    arrays |= {"r": [0.5, 1.5], "ep": [0, 0], "done": [0, 1]}
    np.savez(tmp_path / "log.npz", t=np.array(times, kind), **arrays)
    text = MAP.replace("truncated: cut\n", "")
    (episode,) = imported(tmp_path, [tmp_path / "log.npz"], text)
    np.testing.assert_array_equal(episode.rewards, [0.5, 1.5])
    (tmp_path / "gap").mkdir()
    text = text.replace("time: t", "time: {column: t, step: 1}")
    with pytest.raises(DatasetError, match=rf"row 1, column 't': the time is {gap} "):
        imported(tmp_path / "gap", [tmp_path / "log.npz"], text)


def test_labels(tmp_path):
    """A label's position is the number of its action; 2.0 is the label 2."""
    text = MAP.replace("count: 2", "labels: [stay, 2, go]")
    rows = "x,0,1,10,go,2,0.5,0,0\nx,1,2,20,2.0,stay,1.5,1,0\n"
    (episode,) = read(tmp_path, text, rows=rows)
    np.testing.assert_array_equal(episode.actions, [[2, 1], [1, 0]])
    assert Dataset(tmp_path / "out").card.behaviour["action_labels"] == [
        *("stay", "2", "go")
    ]


def test_agents_of_several_sizes(tmp_path):
    """Zeros and unavailable actions pad every agent to the widest one."""
    text = MAP.replace('["{agent}_o"]', '"{agent}_o*"')
    text = text.replace("count: 2", "count: {left: 3, right: 1}")
    head = NAMES.replace("right_o", "left_o2").replace("left_u", "right_o,left_u")
    rows = "x,0,1,7,10,2,0,0.5,0,0\nx,1,2,8,20,0,0,1.5,1,0\n"
    (episode,) = read(tmp_path, text, head, rows)
    np.testing.assert_array_equal(episode.obs[0], [[1, 7], [10, 0]])
    np.testing.assert_array_equal(episode.action_mask[0], [[1, 1, 1], [1, 0, 0]])
    (tmp_path / "b").mkdir()
    rows = rows.replace("10,2,0", "10,2,1")
    with pytest.raises(
        DatasetError, match=r"'right_u': 1 is no action; .* from 0 to 0"
    ):
        read(tmp_path / "b", text, head, rows)


def test_the_state_of_all_observations(tmp_path):
    ended, _ = read(tmp_path, MAP + "state: observations\n")
    np.testing.assert_array_equal(ended.state, [[1, 10], [2, 20], [0, 0]])
    (tmp_path / "b").mkdir()
    ended, _ = read(tmp_path / "b", MAP + "state: [t, right_o]\n")
    np.testing.assert_array_equal(ended.state[:2], [[0, 10], [1, 20]])


def test_a_column_that_all_agents_see(tmp_path):
    text = MAP.replace('["{agent}_o"]', '["{agent}_o", t]')
    ended, _ = read(tmp_path, text)
    np.testing.assert_array_equal(ended.obs[1], [[2, 1], [20, 1]])


def test_dates(tmp_path):
    text = MAP.replace("time: t", "time: {column: t, step: 60}")
    rows = LOG.replace(",0,1,10", ",2026-01-31 12:00:00,1,10")
    rows = rows.replace(",1,2,20", ",2026-01-31 12:01:00,2,20")
    rows = rows.replace("y,0,", "y,2026-02-01T00:00,").replace(
        "y,1,", "y,2026-02-01T00:01,"
    )
    assert len(read(tmp_path, text, rows=rows)) == 2
    (tmp_path / "b").mkdir()
    late = rows.replace("12:01:00", "12:02:00")
    with pytest.raises(
        DatasetError, match="is 120 after the row before, and 'step' is 60"
    ):
        read(tmp_path / "b", text, rows=late)


def test_arrays_of_all_agents(tmp_path):
    """NPZ and Parquet with [rows, agents, ...] need no names of agents' columns."""
    (episode,) = log((5,))
    arrays = {
        "obs": episode.obs,
        "state": episode.state,
        "mask": episode.action_mask,
        # The last row has no action.
        "action": np.vstack([episode.actions, [[np.nan, np.nan]]]),
        "reward": np.append(episode.rewards, np.nan),
        "episode": np.zeros(6, np.int64),
        "end": np.arange(6) == 5,
    }
    text = """\
form: wide
agents: [a, b]
observation: obs
action: action
mask: mask
reward: reward
episode: episode
terminated: end
state: state
final: row
"""
    np.savez(tmp_path / "log.npz", **arrays)
    assert_same(imported(tmp_path, [tmp_path / "log.npz"], text), [episode])
    arrays["obs"] = np.asfortranarray(episode.obs)
    np.savez(tmp_path / "fortran.npz", **arrays)
    (tmp_path / "f").mkdir()
    found = imported(tmp_path / "f", [tmp_path / "fortran.npz"], text)
    assert_same(found, [episode])
    table = pa.table({name: array.tolist() for name, array in arrays.items()})
    pq.write_table(table, tmp_path / "log.parquet")
    (tmp_path / "p").mkdir()
    found = imported(tmp_path / "p", [tmp_path / "log.parquet"], text)
    assert_same(found, [episode])


def test_objects_in_json_and_structs_in_parquet(tmp_path):
    rows = [
        {
            "left": {"o": [1.0, 2.0], "u": 0},
            "right": {"o": [3.0, 4.0], "u": 1},
            "r": 1.0,
            "done": True,
        }
    ]
    text = """\
form: wide
agents: [left, right]
observation: "{agent}.o"
action: {columns: "{agent}.u", count: 2}
reward: r
terminated: done
"""
    for kind in ("jsonl", "parquet"):
        (tmp_path / kind).mkdir()
        file = WRITERS[kind](tmp_path / kind / f"log.{kind}", rows)
        (episode,) = imported(tmp_path / kind, [file], text)
        np.testing.assert_array_equal(episode.obs[0], [[1, 2], [3, 4]])
        np.testing.assert_array_equal(episode.actions, [[0, 1]])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "npz"])
@pytest.mark.parametrize("form", ["wide", "long"])
def test_blocks_and_files_may_end_anywhere(tmp_path, monkeypatch, kind, form):
    """Blocks have one or two rows, and three files split episodes between steps."""
    for module in (csv_files, json_lines, array_files):
        monkeypatch.setattr(module, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(array_files, "_PARQUET_ROWS", 3)
    episodes = log((4, 1, 7))
    rows = (wide_rows if form == "wide" else long_rows)(episodes)
    step = 1 if form == "wide" else 2
    cuts = [0, 3 * step, 6 * step, len(rows)]
    files = [
        WRITERS[kind](tmp_path / f"log{n}.{kind}", rows[cuts[n] : cuts[n + 1]])
        for n in range(3)
    ]
    text = WIDE_MAP if form == "wide" else long_map(4)
    assert_same(imported(tmp_path, files, text), episodes)


def test_rows_of_agents_may_be_in_any_order(tmp_path):
    episodes = log((4, 2))
    rows = long_rows(episodes)
    rows[2], rows[3] = rows[3], rows[2]
    file = write_csv(tmp_path / "log.csv", rows)
    assert_same(imported(tmp_path, [file], long_map(4)), episodes)


def test_a_text_is_split_as_the_map_says(tmp_path):
    text = MAP + 'separator: "\\t"\n'
    head, rows = NAMES.replace(",", "\t"), LOG.replace(",", "\t")
    assert len(read(tmp_path, text, head, rows, "log.tsv")) == 2


def test_only_the_last_row_may_be_empty(tmp_path):
    """With `final: row` only the last row may lack actions, reward and flags."""
    rows = "x,0,1,10,0,1,0.5,0,0\nx,1,2,20,1,1,1.5,0,1\nx,2,3,30,,,,,\n"
    text = MAP + "final: row\n"
    (episode,) = read(tmp_path, text, rows=rows)
    np.testing.assert_array_equal(episode.obs[..., 0], [[1, 10], [2, 20], [3, 30]])
    for number, (old, new, column) in enumerate(
        [
            ("0.5,0,0", ",0,0", "r"),
            ("0.5,0,0", "0.5,,0", "done"),
            ("10,0", "10,", "left_u"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(DatasetError, match=f"line 2, column '{column}': is empty"):
            read(folder, text, rows=rows.replace(old, new, 1))


@settings(max_examples=20, derandomize=True, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    block=st.integers(600, 5000),
    wide=st.booleans(),
    seed=st.integers(0, 9),
)
def test_import_does_not_depend_on_block_size(
    tmp_path_factory, lengths, block, wide, seed
):
    folder = tmp_path_factory.mktemp("log")
    episodes = log(tuple(lengths), seed=seed)
    rows = (wide_rows if wide else long_rows)(episodes)
    file = write_csv(folder / "log.csv", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "BLOCK_BYTES", block + (600 if wide else 0))
        found = imported(folder, [file], WIDE_MAP if wide else long_map(4))
    assert_same(found, episodes)
