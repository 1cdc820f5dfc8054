"""Datasets from the CSV logs of MA-CQR's authors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from rllib_risk.data.card import Card
from rllib_risk.data.dataset import write_dataset
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import action_dtype
from rllib_risk.data.rows import DatasetError
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.registry import make_team_env

# Rows that are read at once.
_ROWS = 10_000


def import_csv(source: Path, out: Path, env_config: Mapping[str, Any]) -> Card:
    """Imports the form in which the authors of MA-CQR keep their logs.

    One joint step of ``uav`` per row: an index, then ``s``, the action of every UAV,
    the reward, ``s'``, and whether the episode ended. It ends by its time limit only,
    so that an end is a truncation here. A new episode also begins where ``s`` is not
    the ``s'`` before.

    Args:
        source: The file, with one line of column names.
        out: Folder of the dataset.
        env_config: Arguments of ``uav``, which fix how many columns there are.

    Returns:
        The dataset's card.

    Raises:
        DatasetError: If the file has another shape, or an action does not exist.
    """
    try:
        env = make_team_env("uav", dict(env_config))
    except EnvConfigError as error:
        raise DatasetError(f"env_config: {error}") from error
    spec = env.spec_team
    env.close()
    if spec.state_size != spec.obs_size:
        raise DatasetError("in uav-csv all UAVs observe the whole state: no local_obs")
    size, agents = spec.state_size, spec.num_agents
    columns = 2 * size + agents + 2

    def episodes() -> Iterator[Episode]:
        steps: list[np.ndarray] = []
        for row in _csv_rows(source, columns, spec):
            follows = steps and not steps[-1][-1]
            goes_on = follows and (row[:size] == steps[-1][-1 - size : -1]).all()
            if steps and not goes_on:
                yield _csv_episode(np.array(steps), spec.num_actions, agents, size)
                steps = []
            steps.append(row)
        if steps:
            yield _csv_episode(np.array(steps), spec.num_actions, agents, size)

    return write_dataset(
        out,
        episodes(),
        env="uav",
        env_config=env_config,
        agents=spec.agents,
        behaviour={"imported": source.name, "format": "uav-csv"},
        seed=None,
    )


def _csv_rows(source: Path, columns: int, spec: TeamSpec) -> Iterator[np.ndarray]:
    number = 2  # of the line; the first one has the names
    try:
        with pa.csv.open_csv(source) as reader:
            for batch in reader:
                if batch.num_columns != columns + 1:
                    raise DatasetError(
                        f"{source} has {batch.num_columns} columns, and such an env has"
                        f" {columns + 1}: an index, s, actions, reward, s' and the end"
                    )
                rows = _csv_numbers(source, batch, number)
                _check_csv(source, rows, number, spec)
                number += len(rows)
                yield from rows
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DatasetError(f"{source} cannot be read: {error}") from error


def _csv_numbers(source: Path, batch: pa.RecordBatch, number: int) -> np.ndarray:
    """The rows of a batch without the index, float64 ``[rows, columns]``."""
    columns = []
    for index, column in enumerate(batch.columns[1:], start=1):
        values = column.to_numpy(zero_copy_only=False)
        if values.dtype.kind not in "fiub":
            raise DatasetError(
                f"{source}, line {number}, column {index}: {values[0]!r} is no number"
                " (nor are those below it, or some of them)"
            )
        columns.append(values.astype(np.float64))
    return np.column_stack(columns)


def _check_csv(source: Path, rows: np.ndarray, number: int, spec: TeamSpec) -> None:
    """Refuses values that cannot be, with line and column."""

    def refuse(wrong: np.ndarray, first: int, text: str) -> None:
        """Raises if ``wrong``, ``[rows, columns from first on]``, is true anywhere."""
        if wrong.any():
            row, column = (int(n) for n in np.argwhere(wrong)[0])
            value = rows[row, first + column]
            raise DatasetError(
                # The index of the file is column 0.
                f"{source}, line {number + row}, column {first + column + 1}:"
                f" {value:g} {text}"
            )

    size, agents, actions = spec.state_size, spec.num_agents, spec.num_actions
    limit = np.finfo(np.float32).max
    refuse(~(np.abs(rows) <= limit), 0, "is no finite number of 32 bits")
    taken = rows[:, size : size + agents]
    wrong = (taken != taken.round()) | (taken < 0) | (taken >= actions)
    refuse(wrong, size, f"is no action; they go from 0 to {actions - 1}")
    end = rows[:, -1:]
    refuse((end != 0) & (end != 1), rows.shape[1] - 1, "is no end; it is 0 or 1")


def _csv_episode(rows: np.ndarray, num_actions: int, agents: int, size: int) -> Episode:
    states = np.concatenate([rows[:, :size], rows[-1:, -1 - size : -1]])
    states = states.astype(np.float32)
    actions = rows[:, size : size + agents]
    return Episode(
        obs=np.repeat(states[:, None], agents, axis=1),
        state=states,
        action_mask=np.ones((len(states), agents, num_actions), np.uint8),
        actions=actions.astype(action_dtype(num_actions)),
        rewards=rows[:, size + agents].astype(np.float32),
        terminated=False,
        risk_levels=np.ones((len(rows), agents), np.float32),
    )
