"""Imports CSV logs of MA-CQR's authors as datasets."""

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


def import_csv(source: Path, out: Path, env_config: Mapping[str, Any]) -> Card:
    """Imports a CSV log in the format of MA-CQR's authors.

    A row is one joint step of ``uav``: an index, ``s``, the action of every UAV, the
    reward, ``s'``, and whether the episode ended. Episodes end only by their time
    limit, so an end is imported as a truncation. A new episode also begins where ``s``
    differs from ``s'`` of the row before.

    Args:
        source: The file; its first line holds the column names.
        out: Folder of the dataset.
        env_config: Arguments of ``uav``; they decide the number of columns.

    Returns:
        The dataset's card.

    Raises:
        DatasetError: If the file has another number of columns, holds something that is
            not a number, or an action does not exist.
    """
    try:
        env = make_team_env("uav", dict(env_config))
    except EnvConfigError as error:
        raise DatasetError(f"env_config: {error}") from error
    spec = env.spec_team
    env.close()
    if spec.state_size != spec.obs_size:
        raise DatasetError(
            "env_config.local_obs is true, but in a log of format uav-csv all UAVs"
            " observe the whole state: set local_obs to false"
        )
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
    number = 2  # line number; line 1 holds the names
    try:
        with pa.csv.open_csv(source) as reader:
            for batch in reader:
                if batch.num_columns != columns + 1:
                    raise DatasetError(
                        f"{source} has {batch.num_columns} columns, but this env_config"
                        f" needs {columns + 1}: an index, s, actions, reward, s' and"
                        " the end. Set env_config to that of the log"
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
                f"{source}, column {index}: this column holds something that is not a"
                f" number at or below line {number}, which has {values[0]!r}"
            )
        columns.append(values.astype(np.float64))
    return np.column_stack(columns)


def _check_csv(source: Path, rows: np.ndarray, number: int, spec: TeamSpec) -> None:
    """Raises on impossible values, and names their line and column."""

    def refuse(wrong: np.ndarray, first: int, text: str) -> None:
        """Raises if ``wrong``, from column ``first`` on, is true anywhere."""
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
    refuse(~(np.abs(rows) <= limit), 0, "is not a finite number of 32 bits")
    taken = rows[:, size : size + agents]
    wrong = (taken != taken.round()) | (taken < 0) | (taken >= actions)
    refuse(wrong, size, f"is not an action; actions are 0 to {actions - 1}")
    end = rows[:, -1:]
    refuse((end != 0) & (end != 1), rows.shape[1] - 1, "is not an end flag (0 or 1)")


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
