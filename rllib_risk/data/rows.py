"""Rows of joint steps, the table format of a dataset.

A row is one env step with all agents, because a learner with a mixer needs them
together. Columns have RLlib's names. Agents have the order of the card.

Letters, with sizes after padding: ``N`` agents, ``A`` actions, ``D`` observation size,
``S`` state size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import action_dtype
from rllib_risk.data.sizes import ImageShape, TeamSizes, obs_dtype

EPISODE, STEP = "eps_id", "t"
OBS, NEW_OBS = "obs", "new_obs"
STATE, NEW_STATE = "state", "new_state"
ACTION_MASK, NEW_ACTION_MASK = "action_mask", "new_action_mask"
ACTIONS, REWARDS = "actions", "rewards"
TERMINATEDS, TRUNCATEDS = "terminateds", "truncateds"

# Columns of the values before a step and after it.
_ROWS = ((OBS, NEW_OBS), (STATE, NEW_STATE), (ACTION_MASK, NEW_ACTION_MASK))

# Number of axes of an episode's arrays, allowed kinds of NumPy dtypes, and their name.
_ARRAYS = {
    OBS: (3, "fiu", "numbers"),
    STATE: (2, "fiu", "numbers"),
    ACTION_MASK: (3, "iub", "0 and 1"),
    ACTIONS: (2, "iu", "whole numbers"),
    REWARDS: (1, "fiu", "numbers"),
}
_LARGEST = np.finfo(np.float32).max


class DatasetError(RuntimeError):
    """Raised if a dataset cannot be used; the message says why and what to do."""


def _nested(value: pa.DataType, *shape: int) -> pa.DataType:
    for size in reversed(shape):
        value = pa.list_(value, size)
    return value


def schema(sizes: TeamSizes) -> pa.Schema:
    """Returns the columns for teams of these sizes.

    There are no state columns if the environment has no global state.

    Args:
        sizes: Sizes of the team and its observations.

    Returns:
        The schema.
    """
    n, a = sizes.num_agents, sizes.num_actions
    types = {
        OBS: _nested(pa.from_numpy_dtype(obs_dtype(sizes.image)), n, sizes.obs_size),
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


def sizes_of(episode: Episode, image: ImageShape | None = None) -> TeamSizes:
    """Returns the sizes of the team that played an episode.

    Args:
        episode: An episode.
        image: Shape (H, W, C) of an observation, if observations are uint8 images.

    Returns:
        The sizes.

    Raises:
        DatasetError: If the argument is no episode, or its arrays have other types or
            axes than those of :class:`~rllib_risk.data.episodes.Episode`, or the
            observations are no images of this shape.
    """
    if not isinstance(episode, Episode):
        raise DatasetError(
            f"an episode must be an Episode, not {type(episode).__name__}; create one"
            " from arrays with rllib_risk.offline.make_episode"
        )
    for key, (axes, kinds, what) in _ARRAYS.items():
        array = getattr(episode, key)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            found = getattr(array, "dtype", type(array).__name__)
            raise DatasetError(f"{key} must be an array of {what}, not {found}")
        if array.ndim != axes:
            raise DatasetError(
                f"{key} has shape {array.shape}; it must have {axes} axes"
            )
    if not isinstance(episode.terminated, (bool, np.bool_)):
        raise DatasetError(
            f"terminated must be True or False, not {episode.terminated!r}"
        )
    sizes = TeamSizes(
        num_agents=episode.obs.shape[1],
        num_actions=episode.action_mask.shape[2],
        obs_size=episode.obs.shape[2],
        state_size=episode.state.shape[1],
        image=image,
    )
    if image is not None and (
        episode.obs.dtype != np.uint8 or math.prod(image) != sizes.obs_size
    ):
        raise DatasetError(
            f"obs has type {episode.obs.dtype} and {sizes.obs_size} numbers for each"
            f" agent; flat images of shape {image} are uint8 and {math.prod(image)}"
        )
    return sizes


def to_table(
    episodes: Sequence[Episode], ids: Sequence[str], image: ImageShape | None = None
) -> pa.Table:
    """Converts episodes to rows.

    Args:
        episodes: At least one episode.
        ids: Name of each episode, unique in a dataset.
        image: See :func:`sizes_of`.

    Returns:
        The rows in order of episode and time.

    Raises:
        DatasetError: If the lengths of an episode's arrays do not match, or it has
            invalid values.
    """
    sizes = sizes_of(episodes[0], image)
    for name, episode in zip(ids, episodes, strict=True):
        _check_shapes(name, episode, sizes)
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
    terminal = np.repeat([e.terminated for e in episodes], [len(e) for e in episodes])
    # Every agent's column contains the team's reward.
    columns[REWARDS] = np.repeat(rewards[:, None], n, axis=1)
    columns[TERMINATEDS] = np.repeat((ends & terminal)[:, None], n, axis=1)
    columns[TRUNCATEDS] = np.repeat((ends & ~terminal)[:, None], n, axis=1)
    _check_values(columns, columns[EPISODE], 0)
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
    """Converts a column of numbers or fixed-size lists to an array ``[rows, ...]``."""
    array = pa.concat_arrays(column.chunks)
    shape, kind = [len(column)], column.type
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        array, kind = array.flatten(), kind.value_type
    return array.to_numpy(zero_copy_only=False).reshape(shape)


def episodes_of(tables: Iterable[pa.Table]) -> Iterable[tuple[str, Episode]]:
    """Builds episodes from rows. An episode may span several tables.

    Args:
        tables: Rows in the order of the dataset.

    Yields:
        Name and episode.

    Raises:
        DatasetError: If a row has invalid values, or the rows of an episode are not
            consecutive. The message names the row, counted from 0 over all tables, and
            the column.
    """
    # Name, first row and columns of the episode that is being built.
    name, begun, parts = "", 0, list[dict[str, np.ndarray]]()
    row = 0
    for table in tables:
        if not len(table):
            continue
        names = table.column(EPISODE).to_numpy()
        columns = {
            key: _to_numpy(table.column(key))
            for key in table.column_names
            if key != EPISODE
        }
        _check_values(columns, names, row)
        cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(names)], strict=True):
            if parts and names[start] != name:
                yield name, _join(name, parts, begun)
                parts = []
            if not parts:
                begun = row + int(start)
            name = names[start]
            parts.append({key: column[start:stop] for key, column in columns.items()})
        row += len(table)
    if parts:
        yield name, _join(name, parts, begun)


def masks_of(table: pa.Table) -> np.ndarray:
    """Returns the action masks of rows, before their steps.

    Args:
        table: At least the column ``action_mask``.

    Returns:
        uint8 ``[rows, N, A]``.
    """
    return _to_numpy(table.column(ACTION_MASK))


def _check_shapes(name: str, episode: Episode, sizes: TeamSizes) -> None:
    """Raises an error if an episode's arrays do not match each other or ``sizes``."""
    sizes_of(episode)  # raises for other types
    steps = len(episode)
    n, a = sizes.num_agents, sizes.num_actions
    wanted = {
        OBS: (steps + 1, n, sizes.obs_size),
        STATE: (steps + 1, sizes.state_size),
        ACTION_MASK: (steps + 1, n, a),
        ACTIONS: (steps, n),
        REWARDS: (steps,),
    }
    if steps == 0:
        raise DatasetError(f"episode {name!r} has no step")
    for key, shape in wanted.items():
        found = np.shape(getattr(episode, key))
        if found != shape:
            raise DatasetError(
                f"episode {name!r}: {key} has shape {found}; with {steps} steps and the"
                f" sizes of the first episode it must be {shape}"
            )


def _check_values(
    columns: Mapping[str, Any], names: Sequence[str] | np.ndarray, first: int
) -> None:
    """Raises an error for rows with invalid values.

    Args:
        columns: Arrays by name, ``[rows, ...]``.
        names: Name of the episode of every row.
        first: Index of the first row, for messages.
    """

    def refuse(key: str, wrong: np.ndarray, text: str) -> None:
        """Raises an error if ``wrong``, ``[rows, ...]``, is true anywhere."""
        if wrong.any():
            row = int(wrong.reshape(len(wrong), -1).any(axis=1).argmax())
            where = f"episode {str(names[row])!r}, t {int(columns[STEP][row])}"
            held = (
                columns[key][row][wrong[row]] if wrong.ndim > 1 else columns[key][row]
            )
            shown = f"{np.ravel(held)[0]}"
            raise DatasetError(
                f"row {first + row}, column {key}: {text.format(shown)} ({where})"
            )

    for key, column in columns.items():
        if key != EPISODE and column.dtype.kind == "f":
            refuse(key, ~np.isfinite(column), "holds NaN or infinity")
            if column.dtype.itemsize > 4:
                refuse(key, np.abs(column) > _LARGEST, "{} does not fit in 32 bits")
    mask, actions = columns[ACTION_MASK], columns[ACTIONS]
    ends = {key: columns[key] for key in (TERMINATEDS, TRUNCATEDS)}
    for key, end in ends.items():
        refuse(key, end != end[:, :1], "differs between agents; a team ends together")
    over = ends[TERMINATEDS][:, :1]
    for key, matters in ((ACTION_MASK, ~np.zeros_like(over)), (NEW_ACTION_MASK, ~over)):
        odd = (columns[key] != 0) & (columns[key] != 1)
        refuse(key, odd, "holds {}, and a mask holds 0 and 1")
        stuck = ~columns[key].any(axis=2) & matters
        refuse(key, stuck, "leaves an agent without an action")
    count = mask.shape[2]
    wrong = (actions < 0) | (actions >= count)
    refuse(ACTIONS, wrong, f"holds {{}}, and actions go from 0 to {count - 1}")
    taken = np.take_along_axis(mask, actions[..., None].astype(np.int64), axis=2)
    refuse(ACTIONS, taken[..., 0] == 0, "holds {}, which action_mask does not allow")
    rewards = columns[REWARDS]
    refuse(REWARDS, rewards != rewards[:, :1], "differs between agents of a team")


def _join(name: str, parts: list[dict[str, np.ndarray]], first: int) -> Episode:
    """Builds an episode from its rows; ``first`` is the index of the first row."""
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    steps = whole[STEP]
    if STATE not in whole:
        whole[STATE] = whole[NEW_STATE] = np.zeros((len(steps), 0), np.float32)
    _check_order(name, whole, first)
    rows: dict[str, Any] = {
        before: np.concatenate([whole[before], whole[after][-1:]])
        for before, after in _ROWS
    }
    return Episode(
        **rows,
        actions=whole[ACTIONS].astype(action_dtype(rows[ACTION_MASK].shape[-1])),
        rewards=whole[REWARDS].mean(axis=1, dtype=np.float64).astype(np.float32),
        terminated=bool(whole[TERMINATEDS][-1].all()),
        risk_levels=np.ones(whole[ACTIONS].shape, np.float32),
    )


def _check_order(name: str, whole: Mapping[str, np.ndarray], first: int) -> None:
    """Raises an error if the rows of an episode are not consecutive."""

    def refuse(row: int, key: str, text: str) -> None:
        raise DatasetError(
            f"row {first + row}, column {key}: {text} (episode {name!r})"
        )

    steps = whole[STEP]
    wrong = steps != np.arange(len(steps))
    if wrong.any():
        row = int(wrong.argmax())
        refuse(
            row,
            STEP,
            f"holds {steps[row]} instead of {row}: rows are missing or not in the order"
            " of t",
        )
    over, cut = whole[TERMINATEDS][:, 0], whole[TRUNCATEDS][:, 0]
    ends = over | cut
    if ends[:-1].any():
        row = int(ends.argmax())
        refuse(row, TERMINATEDS if over[row] else TRUNCATEDS, "the episode goes on")
    if not ends[-1]:
        refuse(
            len(ends) - 1,
            TRUNCATEDS,
            "the last row does not end the episode: rows are missing",
        )
    if over[-1] and cut[-1]:
        refuse(
            len(ends) - 1,
            TRUNCATEDS,
            "an episode cannot be both terminated and truncated",
        )
    for before, after in _ROWS:
        differ = whole[after][:-1] != whole[before][1:]
        wrong = differ.any(axis=tuple(range(1, differ.ndim)))
        if wrong.any():
            refuse(int(wrong.argmax()), after, f"is not the {before} of the next row")
