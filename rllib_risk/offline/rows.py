"""Joint-step rows: what a log of a team looks like as a table.

One row per env step, with all agents of the step in it, since a learner with a mixer
needs them together. Columns have RLlib's names; agents stand in a fixed order, that of
the card. ``N`` agents, ``A`` actions, ``D`` observation size, ``S`` state size, as the
team contract pads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rllib_risk.core.episodes import Episode
from rllib_risk.core.replay_memory import action_dtype
from rllib_risk.models.sizes import TeamSizes

EPISODE, STEP = "eps_id", "t"
OBS, NEW_OBS = "obs", "new_obs"
STATE, NEW_STATE = "state", "new_state"
ACTION_MASK, NEW_ACTION_MASK = "action_mask", "new_action_mask"
ACTIONS, REWARDS = "actions", "rewards"
TERMINATEDS, TRUNCATEDS = "terminateds", "truncateds"

# What is there before a step and after it.
_ROWS = ((OBS, NEW_OBS), (STATE, NEW_STATE), (ACTION_MASK, NEW_ACTION_MASK))


class DatasetError(RuntimeError):
    """A dataset that cannot be used; the message says why and what to do."""


def _nested(value: pa.DataType, *shape: int) -> pa.DataType:
    for size in reversed(shape):
        value = pa.list_(value, size)
    return value


def schema(sizes: TeamSizes) -> pa.Schema:
    """The columns for teams of this size; there are none of the state if it is empty.

    Args:
        sizes: What the environment fixes.

    Returns:
        The schema.
    """
    n, a = sizes.num_agents, sizes.num_actions
    types = {
        OBS: _nested(pa.float32(), n, sizes.obs_size),
        STATE: _nested(pa.float32(), sizes.state_size),
        ACTION_MASK: _nested(pa.uint8(), n, a),
    }
    fields = [pa.field(EPISODE, pa.string()), pa.field(STEP, pa.int32())]
    for before, after in _ROWS:
        if before != STATE or sizes.state_size:
            fields += [pa.field(name, types[before]) for name in (before, after)]
    for name, value in (
        (ACTIONS, pa.int64()),
        (REWARDS, pa.float32()),
        (TERMINATEDS, pa.bool_()),
        (TRUNCATEDS, pa.bool_()),
    ):
        fields.append(pa.field(name, _nested(value, n)))
    return pa.schema([field.with_nullable(False) for field in fields])


def sizes_of(episode: Episode) -> TeamSizes:
    """The sizes of the team that played an episode."""
    return TeamSizes(
        num_agents=episode.obs.shape[1],
        num_actions=episode.action_mask.shape[2],
        obs_size=episode.obs.shape[2],
        state_size=episode.state.shape[1],
    )


def to_table(episodes: Sequence[Episode], ids: Sequence[str]) -> pa.Table:
    """Episodes as rows.

    Args:
        episodes: At least one.
        ids: A name for each, not used twice in a dataset.

    Returns:
        The rows, episode by episode, in the order of time.
    """
    sizes = sizes_of(episodes[0])
    n = sizes.num_agents
    columns: dict[str, np.ndarray | list[str]] = {
        EPISODE: [i for i, e in zip(ids, episodes, strict=True) for _ in range(len(e))],
        STEP: np.concatenate([np.arange(len(e), dtype=np.int32) for e in episodes]),
        ACTIONS: np.concatenate([e.actions for e in episodes]).astype(np.int64),
    }
    for before, after in _ROWS:
        columns[before] = np.concatenate([getattr(e, before)[:-1] for e in episodes])
        columns[after] = np.concatenate([getattr(e, before)[1:] for e in episodes])
    rewards = np.concatenate([e.rewards for e in episodes])
    ends = np.concatenate([np.arange(len(e)) == len(e) - 1 for e in episodes])
    truly = np.repeat([e.terminated for e in episodes], [len(e) for e in episodes])
    # One number of the team, told to every agent.
    columns[REWARDS] = np.repeat(rewards[:, None], n, axis=1)
    columns[TERMINATEDS] = np.repeat((ends & truly)[:, None], n, axis=1)
    columns[TRUNCATEDS] = np.repeat((ends & ~truly)[:, None], n, axis=1)
    wanted = schema(sizes)
    return pa.table(
        [_to_arrow(columns[field.name], field.type) for field in wanted], wanted
    )


def _to_arrow(column: np.ndarray | list[str], kind: pa.DataType) -> pa.Array:
    if isinstance(column, list) or column.ndim == 1:
        return pa.array(column, kind)
    kinds = [kind]
    while pa.types.is_fixed_size_list(kinds[-1]):
        kinds.append(kinds[-1].value_type)
    array = pa.array(np.ascontiguousarray(column).reshape(-1), kinds[-1])
    for size in reversed(column.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """``[rows, ...]`` of a column of numbers or of lists of fixed sizes."""
    array = pa.concat_arrays(column.chunks)
    shape, kind = [len(column)], column.type
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        array, kind = array.flatten(), kind.value_type
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def episodes_of(tables: Iterable[pa.Table]) -> Iterable[tuple[str, Episode]]:
    """Puts episodes together from rows; they may go on from one table to the next.

    Args:
        tables: Rows in the order of the dataset.

    Yields:
        Name and episode.

    Raises:
        DatasetError: If numbers are not finite, or an episode's steps are not in order.
    """
    # Of the episode that is being put together.
    name, parts = "", list[dict[str, np.ndarray]]()
    for table in tables:
        if not len(table):
            continue
        names = table.column(EPISODE).to_numpy()
        columns = {
            key: _to_numpy(table.column(key))
            for key in table.column_names
            if key != EPISODE
        }
        _check_finite(columns, names)
        cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(names)], strict=True):
            if parts and names[start] != name:
                yield name, _join(name, parts)
                parts = []
            name = names[start]
            parts.append({key: column[start:stop] for key, column in columns.items()})
    if parts:
        yield name, _join(name, parts)


def _check_finite(columns: dict[str, np.ndarray], names: np.ndarray) -> None:
    for name, column in columns.items():
        if column.dtype.kind != "f":
            continue
        wrong = ~np.isfinite(column).reshape(len(column), -1).all(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(
                f"column {name} holds NaN or infinity at episode"
                f" {names[row]!r}, t {int(columns[STEP][row])}"
            )


def _join(name: str, parts: list[dict[str, np.ndarray]]) -> Episode:
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    steps = whole[STEP]
    if (np.diff(steps) != 1).any():
        raise DatasetError(
            f"episode {name!r}: its rows are not in the order of t, or some are missing"
        )
    ends = np.logical_and.reduce(whole[TERMINATEDS], axis=1)
    if ends[:-1].any():
        raise DatasetError(f"episode {name!r} goes on after it terminated")
    if STATE not in whole:
        whole[STATE] = whole[NEW_STATE] = np.zeros((len(steps), 0), np.float32)
    rows: dict[str, Any] = {
        before: np.concatenate([whole[before], whole[after][-1:]])
        for before, after in _ROWS
    }
    return Episode(
        **rows,
        actions=whole[ACTIONS].astype(action_dtype(rows[ACTION_MASK].shape[-1])),
        rewards=whole[REWARDS].mean(axis=1, dtype=np.float64).astype(np.float32),
        terminated=bool(ends[-1]),
        risk_levels=np.ones(whole[ACTIONS].shape, np.float32),
    )
