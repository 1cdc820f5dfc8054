"""Which column ``--infer`` takes for the episode, and which ones it must not take."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from rllib_risk.data.dataset import Dataset
from rllib_risk.data.importing.importer import import_files
from rllib_risk.data.importing.inference import infer_map

# Three episodes of 3, 2 and 2 steps.
TIMES = (0, 1, 2, 0, 1, 0, 1)


def write(folder, **columns):
    """A file of the wide form with the time, an action, a reward and these columns."""
    named = {**columns, "t": TIMES, "left_action": "0110101", "reward": "1234567"}
    rows = [",".join(named)]
    rows += [",".join(map(str, row)) for row in zip(*named.values(), strict=True)]
    file = folder / "log.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def guessed(file):
    guess = infer_map([file])
    return yaml.safe_load(guess.text).get("episode"), guess.text


@pytest.mark.parametrize(
    "values", ["7778899", "aaabbcc", ("2026-01-31",) * 3 + ("x 1",) * 2 + ("x 2",) * 2]
)
def test_a_column_that_changes_where_the_time_restarts_is_the_episode(tmp_path, values):
    found, text = guessed(write(tmp_path, flight=values))
    assert found == "flight"
    why = "a new value at every restart of 't' (2), and nowhere else"
    assert f"episode: flight  # {why}\n" in text


@pytest.mark.parametrize(
    "values",
    [
        "0000011",  # constant over the first two episodes
        "0012233",  # changes within the first one
        "0001100",  # its first value comes back
        ("1.0", "1.0", "1.0", "2.0", "2.0", "3.5", "3.5"),  # a measurement
        ("", "", "", "b", "b", "c", "c"),  # not known for the first episode
    ],
)
def test_what_is_no_name_of_episodes_is_not_taken(tmp_path, values):
    found, text = guessed(write(tmp_path, mission=values))
    assert found is None
    assert "# NOT GUESSED episode: the column with the episode" in text
    assert "no column has a new value exactly where 't' restarts" in text


def test_of_two_columns_that_fit_the_one_that_counts_is_taken(tmp_path):
    seeds = "9992255"
    found, text = guessed(write(tmp_path, seed=seeds, goal=seeds, flight="3334455"))
    assert found == "flight"
    assert "; the same holds for 'seed', 'goal'\n" in text


def test_a_known_name_comes_before_any_values(tmp_path):
    assert guessed(write(tmp_path, flight="0001122", run="5555588"))[0] == "run"


def test_a_time_that_never_restarts_shows_no_episodes(tmp_path):
    file = write(tmp_path, flight="0001122")
    text = file.read_text().splitlines()
    rows = [",".join([r[:2] + str(n), r[4:]]) for n, r in enumerate(text[1:])]
    file.write_text("\n".join([text[0], *rows]) + "\n")
    found, text = guessed(file)
    assert found is None and "'t' does not restart in the first 7 rows" in text


def test_numbers_with_decimals_are_measurements_in_parquet_too(tmp_path):
    heights = np.array([1.0, 1, 1, 2, 2, 3, 3])
    columns = {"height": heights, "t": TIMES, "left_action": [0] * 7, "reward": heights}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    assert guessed(tmp_path / "log.parquet")[0] is None
    columns["flight"] = heights.astype(int)
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    assert guessed(tmp_path / "log.parquet")[0] == "flight"


def test_a_guessed_episode_is_not_observed_in_the_long_form(tmp_path):
    """The second agent's row repeats the time, which is not a restart."""
    rows = ["flight,t,agent,x,action,reward"]
    for flight, steps in ((4, 3), (5, 2)):
        for t in range(steps):
            rows += [f"{flight},{t},{a},{t / 2},{t % 2},1" for a in ("left", "right")]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    found, text = guessed(tmp_path / "log.csv")
    assert found == "flight"
    assert yaml.safe_load(text)["observation"] == "x"
    other = tmp_path / "other.csv"  # no column name marks the agent
    other.write_text("\n".join([rows[0].replace("agent", "who"), *rows[1:]]) + "\n")
    assert guessed(other)[0] == "flight"
    (tmp_path / "map.yaml").write_text(text + "end: truncated\n")
    import_files(tmp_path / "out", [tmp_path / "log.csv"], tmp_path / "map.yaml")
    # The files do not hold what followed the last step of an episode that was cut off.
    assert [len(e) for e in Dataset(tmp_path / "out").episodes()] == [2, 1]
