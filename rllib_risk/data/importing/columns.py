"""Finds the columns of a map in a file, and joins them to arrays.

Letters: ``R`` rows, ``n`` agents of a row (all ``N`` in the wide form, one in the long
form), ``k`` numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rllib_risk.config.schema import shown, suggest
from rllib_risk.data.arrays import OBSERVATIONS
from rllib_risk.data.importing.mapping import AGENT, ColumnMap, Names
from rllib_risk.data.importing.tables import Rows, Table

# Maximum number of column names in a message.
_MAX_NAMES = 12
# Keys that may share columns.
_TOGETHER = ({"observation", "state"}, {"next.observation", "next.state"})


@dataclass(frozen=True)
class Chosen:
    """The columns of one key of a map in one file.

    Attributes:
        each: Columns of each agent; one entry for all agents if ``shared``.
        shared: Whether all agents share the columns.
    """

    each: tuple[Names, ...]
    shared: bool

    def of(self, agent: int) -> Names:
        """Returns the columns of an agent."""
        return self.each[0 if self.shared else agent]

    @property
    def names(self) -> Iterator[str]:
        """All columns, possibly with repeats."""
        return (name for names in self.each for name in names)


@dataclass(frozen=True)
class Selection:
    """The columns of all keys of a map in one file."""

    table: Table
    keys: dict[str, Chosen]

    @property
    def names(self) -> list[str]:
        """All columns to read, without repeats."""
        found = (name for chosen in self.keys.values() for name in chosen.names)
        return list(dict.fromkeys(found))


def select(table: Table, columns: ColumnMap) -> Selection:
    """Finds the columns of a map in a file.

    Args:
        table: The file.
        columns: The map.

    Returns:
        The columns of each key.

    Raises:
        ConfigError: If a column does not exist, a pattern matches no column, or a
            column has two uses.
    """
    keys = {
        "observation": columns.observation,
        "action": columns.action,
        "reward": columns.reward,
        "terminated": columns.terminated,
        "truncated": columns.truncated,
        "state": () if columns.state == (OBSERVATIONS,) else columns.state,
        "mask": columns.mask,
        "episode": (columns.episode,) if columns.episode else (),
        "time": (columns.time,) if columns.time else (),
        "agent": (columns.agent,) if columns.agent else (),
        **{f"next.{key}": names for key, names in columns.next.items()},
    }
    chosen = {
        key: _choose(table, columns, key, names) for key, names in keys.items() if names
    }
    single = ("action", "reward", "terminated", "truncated", "episode", "time", "agent")
    for key in single:
        if key in chosen and any(len(names) != 1 for names in chosen[key].each):
            many = next(names for names in chosen[key].each if len(names) != 1)
            raise columns.error(
                f"{key}: takes {len(many)} columns of {table.file} where one is due:"
                f" {_listed(many)}.",
                key,
            )
    _refuse_two_uses(table, columns, chosen)
    return Selection(table, chosen)


def _choose(table: Table, columns: ColumnMap, key: str, names: Names) -> Chosen:
    path = key.split(".")
    with_agent = any(AGENT in name for name in names)
    if with_agent and (columns.is_long or key in ("episode", "time", "state")):
        where = "in form: long" if columns.is_long else "of the whole team"
        raise columns.error(f"{key}: {AGENT} has no meaning {where}.", *path)
    if not with_agent:
        return Chosen((_match(table, columns, key, names),), True)
    each = tuple(
        _match(table, columns, key, tuple(n.replace(AGENT, agent) for n in names))
        for agent in columns.agents
    )
    own = [
        {c for n in names if AGENT in n for c in _taken(table, n.replace(AGENT, agent))}
        for agent in columns.agents
    ]
    for index, taken in enumerate(own):
        for other in range(index):
            if both := sorted(taken & own[other]):
                raise columns.error(
                    f"{key}: the column {shown(both[0])} of {table.file} belongs to"
                    f" {columns.agents[other]} and {columns.agents[index]}. Use a"
                    " pattern that parts them.",
                    *path,
                )
    return Chosen(each, False)


def _taken(table: Table, pattern: str) -> list[str]:
    """Returns columns that match a name or pattern, in the order of the file."""
    if pattern in table.names or "*" not in pattern:
        return [name for name in table.names if name == pattern]
    form = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return [name for name in table.names if form.fullmatch(name)]


def _match(table: Table, columns: ColumnMap, key: str, patterns: Names) -> Names:
    found: list[str] = []
    for pattern in patterns:
        taken = _taken(table, pattern)
        if not taken:
            kind = "column that matches" if "*" in pattern else "column"
            raise columns.error(
                f"{key}: {table.file} has no {kind} {shown(pattern)}; it has"
                f" {_listed(table.names)}." + suggest(pattern, table.names),
                *key.split("."),
            )
        found += taken
    return tuple(dict.fromkeys(found))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    listed = ", ".join(shown(name) for name in names[:_MAX_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed


def _refuse_two_uses(
    table: Table, columns: ColumnMap, chosen: dict[str, Chosen]
) -> None:
    """Raises an error if an observation, state or mask has a column of another key.

    Agents cannot observe the action or the reward of the same step.
    """
    for key in ("observation", "state", "next.observation", "next.state", "mask"):
        if key not in chosen:
            continue
        patterns = _patterns(columns, key)
        for other, used in chosen.items():
            if key == other or {key, other} in _TOGETHER:
                continue
            both = set(used.names) & set(chosen[key].names)
            if other in ("episode", "time", "agent"):
                both -= set(patterns)  # named explicitly, so it is intended
            if both:
                raise columns.error(
                    f"{key}: takes {shown(min(both))} of {table.file}, which '{other}'"
                    " takes too. Use a narrower pattern, or name the columns.",
                    *key.split("."),
                )


def _patterns(columns: ColumnMap, key: str) -> Names:
    if key.startswith("next."):
        return columns.next[key.removeprefix("next.")]
    found: Names = getattr(columns, key)
    return found


def join(
    rows: Rows,
    chosen: Chosen,
    num_agents: int,
    read: Callable[[Rows, str], np.ndarray],
    *,
    single: bool = False,
) -> list[np.ndarray]:
    """Reads the numbers of each agent.

    Args:
        rows: The rows.
        chosen: Columns to read.
        num_agents: ``n``, number of agents of a row.
        read: Function that converts a column to numbers, such as
            :func:`.cells.numbers`.
        single: Whether each agent must have one number.

    Returns:
        ``[R, k]`` for each agent, where ``k`` may differ. If all agents share the
        columns, one array.

    Raises:
        DatasetError: If a column has the wrong number of values.
    """
    if chosen.shared and len(chosen.each[0]) == 1:
        (name,) = chosen.each[0]
        values = read(rows, name)
        axes = values.ndim - 1
        if axes == (1 if single else 2):  # an array of all agents
            if values.shape[1] != num_agents:
                raise rows.error(
                    0,
                    name,
                    f"holds values of {values.shape[1]} agents, and there are"
                    f" {num_agents}",
                )
            flat = values.reshape(len(rows), num_agents, -1)
            return [flat[:, agent] for agent in range(num_agents)]
        return [_columns(rows, chosen.each[0], lambda r, n: values, single)]
    return [_columns(rows, names, read, single) for names in chosen.each]


def _columns(
    rows: Rows,
    names: Names,
    read: Callable[[Rows, str], np.ndarray],
    single: bool,
) -> np.ndarray:
    parts = []
    for name in names:
        values = read(rows, name)
        if values.ndim > (1 if single else 2):
            raise rows.error(0, name, f"holds {values.shape[1:]} values, not one")
        parts.append(values.reshape(len(rows), -1))
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
