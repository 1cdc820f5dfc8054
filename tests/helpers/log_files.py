"""Writes logs of a team in every file format, for the tests of imports."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_risk.core.config import TeamConfig
from rllib_risk.core.dataset_recording import record, scripted_player
from rllib_risk.data.dataset import Dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.importing.importer import import_files
from rllib_risk.env_wrappers.scripted import reference_policies

AGENTS = ("uav_0", "uav_1")


def wide_rows(episodes, agents=AGENTS):
    """One row per env step: episode, t, obs, action and mask of each agent, ..."""
    rows = []
    for number, e in enumerate(episodes):
        for t in range(len(e)):
            row = {"episode": f"run{number}", "t": t}
            for i, agent in enumerate(agents):
                row |= {f"{agent}_o{k}": v for k, v in enumerate(e.obs[t, i].tolist())}
            for k, v in enumerate(e.state[t].tolist()):
                row[f"state_{k}"] = v
            for i, agent in enumerate(agents):
                mask = e.action_mask[t, i].tolist()
                row |= {f"{agent}_m{k}": v for k, v in enumerate(mask)}
                row[f"{agent}_action"] = int(e.actions[t, i])
            row["reward"] = float(e.rewards[t])
            last = t == len(e) - 1
            row["done"] = last and e.terminated
            row["timeout"] = last and not e.terminated
            after = t + 1
            for i, agent in enumerate(agents):
                values = e.obs[after, i].tolist()
                row |= {f"next_{agent}_o{k}": v for k, v in enumerate(values)}
                mask = e.action_mask[after, i].tolist()
                row |= {f"next_{agent}_m{k}": v for k, v in enumerate(mask)}
            for k, v in enumerate(e.state[after].tolist()):
                row[f"next_state_{k}"] = v
            rows.append(row)
    return rows


WIDE_MAP = """\
form: wide
agents: [uav_0, uav_1]
observation: "{agent}_o*"
action: "{agent}_action"
mask: "{agent}_m*"
reward: reward
episode: episode
time: {column: t, step: 1}
terminated: done
truncated: timeout
state: "state_*"
next:
  observation: "next_{agent}_o*"
  mask: "next_{agent}_m*"
  state: "next_state_*"
"""


def long_rows(episodes, agents=AGENTS):
    """One row per agent and step, and one per agent with the last observation only."""
    rows = []
    for number, e in enumerate(episodes):
        for t in range(len(e) + 1):
            for i, agent in enumerate(agents):
                row = {"episode": number, "t": t, "agent": agent}
                row |= {f"o{k}": v for k, v in enumerate(e.obs[t, i].tolist())}
                row |= {f"s{k}": v for k, v in enumerate(e.state[t].tolist())}
                mask = e.action_mask[t, i].tolist()
                row |= {f"m{k}": v for k, v in enumerate(mask)}
                over = t == len(e)
                row["action"] = None if over else f"a{e.actions[t, i]}"
                row["reward"] = None if over else float(e.rewards[t])
                row["end"] = over and e.terminated
                rows.append(row)
    return rows


def long_map(num_actions):
    labels = ", ".join(f"a{i}" for i in range(num_actions))
    return f"""\
form: long
agents: [uav_0, uav_1]
agent: agent
observation: "o*"
action: {{columns: action, labels: [{labels}]}}
mask: "m*"
reward: reward
episode: episode
time: t
terminated: end
state: "s*"
final: row
"""


def _cell(value):
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def write_csv(path: Path, rows, separator=",", decimal="."):
    lines = [separator.join(rows[0])]
    for row in rows:
        values = (_cell(value).replace(".", decimal) for value in row.values())
        lines.append(separator.join(values))
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def write_json_lines(path: Path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def write_parquet(path: Path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def columns_of(rows):
    """Arrays by name. Empty text or NaN stands for a missing value."""
    found = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if any(isinstance(value, str) for value in values):
            found[name] = np.array([value or "" for value in values])
        else:
            found[name] = np.array([np.nan if v is None else v for v in values])
    return found


def write_npz(path: Path, rows):
    np.savez_compressed(path, **columns_of(rows))
    return path


def write_hdf5(path: Path, rows):
    import h5py

    with h5py.File(path, "w") as file:
        for name, column in columns_of(rows).items():
            is_text = column.dtype.kind == "U"
            file.create_dataset(
                name,
                data=column.tolist() if is_text else column,
                dtype=h5py.string_dtype() if is_text else None,
            )
    return path


WRITERS = {
    "csv": write_csv,
    "csv.gz": write_csv,
    "jsonl": write_json_lines,
    "jsonl.gz": write_json_lines,
    "parquet": write_parquet,
    "npz": write_npz,
    "h5": write_hdf5,
}


def csv_of(path, episodes, start=0):
    """Writes s, actions, r, s' and done as pandas does: an index, numbered columns."""
    rows = []
    for e in episodes:
        for t in range(len(e)):
            done = float(t == len(e) - 1)
            rows.append(
                [*e.state[t], *e.actions[t], e.rewards[t], *e.state[t + 1], done]
            )
    rows = rows[start:]
    lines = ["," + ",".join(str(i) for i in range(len(rows[0])))]
    lines += [
        ",".join([str(start + i), *(repr(float(v)) for v in row)])
        for i, row in enumerate(rows)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


PARTS = ("obs", "state", "action_mask", "actions", "rewards")


def uav_log(number=3, steps=6):
    config = TeamConfig().environment("uav", env_config={"episode_steps": steps})
    player = scripted_player(reference_policies("uav")["random"], 0.0)
    return list(record(config, [player], number, seed=0))


def log(lengths=(4, 1, 7), num_actions=4, seed=0):
    """Random episodes with masks; every second one is truncated."""
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
