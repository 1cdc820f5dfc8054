"""Converts rows of a file to joint steps and checks them.

Letters: ``R`` rows or steps, ``n`` agents of a row (all ``N`` in the wide form, one in
the long form), ``A`` actions, ``D`` observation size, ``S`` state size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from rllib_risk.config.schema import shown, suggest
from rllib_risk.data.importing import cells
from rllib_risk.data.importing.columns import Chosen, Selection, join, select
from rllib_risk.data.importing.mapping import ColumnMap
from rllib_risk.data.importing.tables import Rows, Table
from rllib_risk.data.rows import DatasetError

# Stands for a missing action. The row has only the last observation.
NO_ACTION = -1


@dataclass(frozen=True)
class Steps:
    """Consecutive rows as arrays.

    Attributes:
        rows: The rows, for messages.
        columns: Columns of each key of the map, for messages.
        arrays: ``obs [R, n, D]``, ``actions [R, n]`` (-1: none), ``reward [R, 1]`` or
            ``[R, n]``. If the map has them, also ``state [R, S]``, ``mask [R, n, A]``,
            ``terminated`` and ``truncated`` (shaped like ``reward``), ``episode``,
            ``time`` and ``agent [R]``, ``next.observation``, ``next.state`` and
            ``next.mask``. Joint steps of the long form also have ``numbers [R, N]``,
            the agents' row numbers.
    """

    rows: Rows
    columns: dict[str, Chosen]
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def error(
        self, index: int, key: str, text: str, agent: int = 0, number: int = 0
    ) -> DatasetError:
        """Builds an error about a row and a key of the map.

        Args:
            index: Index of the row or step.
            key: Key of the map.
            text: Description of the problem.
            agent: Index of the agent that has the row or column.
            number: Index of the column among the key's columns.
        """
        rows = self.rows
        if "numbers" in self.arrays:
            rows = replace(rows, numbers=self.arrays["numbers"][:, agent])
        names = self.columns[key].of(agent)
        return rows.error(index, names[number if number < len(names) else 0], text)

    def __getitem__(self, part: slice | np.ndarray) -> Steps:
        """Selects some of the rows."""
        rows = self.rows
        kept = Rows(rows.file, rows.unit, rows.numbers[part], {}, rows.decimal)
        arrays = {key: array[part] for key, array in self.arrays.items()}
        return Steps(kept, self.columns, arrays)


def joined(first: Steps, second: Steps) -> Steps:
    """Concatenates rows of one file."""
    rows = first.rows
    numbers = np.concatenate([rows.numbers, second.rows.numbers])
    return Steps(
        Rows(rows.file, rows.unit, numbers, {}, rows.decimal),
        first.columns,
        {
            key: np.concatenate([array, second.arrays[key]])
            for key, array in first.arrays.items()
        },
    )


class StepReader:
    """Reads the joint steps of files that one map describes."""

    def __init__(self, columns: ColumnMap) -> None:
        """Initializes the reader.

        Args:
            columns: The map.
        """
        self._map = columns
        self._agents = len(columns.agents)
        self._gaps = columns.final == "row"
        # The first rows set the sizes, which all rows must have.
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._counts: np.ndarray | None = None  # [N]
        self._labels = {label: i for i, label in enumerate(columns.labels)}
        if columns.labels:
            self._counts = np.full(self._agents, len(columns.labels))
        elif columns.counts is not None:
            self._counts = np.array(columns.counts)

    @property
    def available(self) -> np.ndarray:
        """1 where an agent has an action, uint8 ``[N, A]``; known after one row."""
        assert self._counts is not None
        actions = np.arange(self._counts.max())
        return (actions < self._counts[:, None]).astype(np.uint8)

    def read(self, table: Table) -> Iterator[Steps]:
        """Reads a file.

        Args:
            table: The file.

        Yields:
            Joint steps, ``n = N``.

        Raises:
            ConfigError: If the file does not have the columns of the map.
            DatasetError: If a cell holds an invalid value.
        """
        selection = select(table, self._map)
        flat = (
            self._extract(rows, selection)
            for rows in table.read(selection.names)
            if len(rows)
        )
        yield from self._grouped(flat) if self._map.is_long else flat

    def _extract(self, rows: Rows, selection: Selection) -> Steps:
        keys = selection.keys
        arrays: dict[str, np.ndarray] = {}
        steps = Steps(rows, keys, arrays)
        if "episode" in keys:
            arrays["episode"] = cells.names(rows, keys["episode"].of(0)[0])
        if "time" in keys:
            arrays["time"] = cells.times(rows, keys["time"].of(0)[0])
        agents: np.ndarray | None = None
        if "agent" in keys:
            agents = arrays["agent"] = self._agent_index(steps)
        for key in ("observation", "next.observation"):
            if key in keys:
                parts = self._parts(rows, selection, key, cells.numbers)
                arrays["obs" if key == "observation" else key] = _padded(parts)
        for key in ("state", "next.state"):
            if key in keys:
                arrays[key] = self._parts(rows, selection, key, cells.numbers)[0]
        self._masks(steps, selection, agents)
        arrays["actions"] = self._actions(steps, selection, agents)
        self._check_legal(steps, selection, agents)
        # Rows that hold only the last observation may leave these cells empty.
        ended = (arrays["actions"] == NO_ACTION).all(axis=1) if self._gaps else None
        count = 1 if self._map.is_long else self._agents
        readers = {
            "reward": partial(cells.numbers, gaps=self._gaps),
            "terminated": partial(cells.flags, gaps=ended),
            "truncated": partial(cells.flags, gaps=ended),
        }
        for key, read in readers.items():
            if key in keys:
                parts = join(rows, keys[key], count, read, single=True)
                arrays[key] = np.concatenate(parts, axis=1)
        return steps

    def _agent_index(self, steps: Steps) -> np.ndarray:
        known = {name: i for i, name in enumerate(self._map.agents)}
        found = cells.names(steps.rows, steps.columns["agent"].of(0)[0])
        index = np.array([known.get(name, -1) for name in found], np.int64)
        if (index < 0).any():
            place = int((index < 0).argmax())
            text = f"{shown(found[place])} is not an agent of the map"
            text += suggest(found[place], known)
            raise steps.error(place, "agent", text)
        return index

    def _parts(
        self, rows: Rows, selection: Selection, key: str, read: Any
    ) -> list[np.ndarray]:
        """Reads the numbers of each agent and checks that their count is constant."""
        count = 1 if self._map.is_long else self._agents
        parts = join(rows, selection.keys[key], count, read)
        if len(parts) < count and key.split(".")[-1] != "state":
            parts = parts * count
        sizes = tuple(part.shape[1] for part in parts)
        wanted = self._sizes.setdefault(key.removeprefix("next."), sizes)
        if sizes != wanted:
            agent = next(
                i for i, (a, b) in enumerate(zip(sizes, wanted, strict=True)) if a != b
            )
            names = selection.keys[key].of(agent)
            raise rows.error(
                0,
                names[0],
                f"'{key}' has {sizes[agent]} numbers here, and {wanted[agent]} before",
            )
        return parts

    def _masks(
        self, steps: Steps, selection: Selection, agents: np.ndarray | None
    ) -> None:
        for key in ("mask", "next.mask"):
            if key not in selection.keys:
                continue
            parts = self._parts(steps.rows, selection, key, cells.flags)
            sizes = np.array([part.shape[1] for part in parts])
            if self._counts is None:
                self._counts = np.repeat(sizes, self._agents // len(sizes))
            most = self._counts.max()
            fits = (sizes == self._counts[: len(sizes)]) | (sizes == most)
            if not fits.all():
                raise self._map.error(
                    f"mask: {steps.rows.file} has masks of {sizes.max()} actions, and"
                    f" there are {most}.",
                    "mask",
                )
            mask = np.zeros((len(steps), len(parts), most), np.uint8)
            for agent, part in enumerate(parts):
                mask[:, agent, : part.shape[1]] = part
            limits = (
                self._counts[None] if agents is None else self._counts[agents, None]
            )
            mask *= np.arange(most) < limits[..., None]
            steps.arrays[key] = mask

    def _limits(self, agents: np.ndarray | None) -> np.ndarray:
        """Numbers of actions ``[1, N]``, or ``[R, 1]`` for rows of one agent each."""
        assert self._counts is not None
        return self._counts[None] if agents is None else self._counts[agents, None]

    def _actions(
        self, steps: Steps, selection: Selection, agents: np.ndarray | None
    ) -> np.ndarray:
        """Reads and checks actions ``[R, n]``; -1 in cells that may be empty."""
        count = 1 if self._map.is_long else self._agents
        chosen = selection.keys["action"]
        read = self._labelled if self._labels else self._numbered
        parts = join(steps.rows, chosen, count, read, single=True)
        if len(parts) < count or any(part.shape[1] != 1 for part in parts):
            raise self._map.error(
                f"action: {steps.rows.file} has one column for {count} agents. Name"
                " one for each, such as 'action_{agent}'.",
                "action",
            )
        actions = np.concatenate(parts, axis=1)
        limits = self._limits(agents)
        wrong = actions >= limits
        if wrong.any():
            row, agent = (int(n) for n in np.argwhere(wrong)[0])
            most = np.broadcast_to(limits, wrong.shape)[row, agent] - 1
            text = f"{actions[row, agent]:.17g} is no action; they go from 0 to {most}"
            raise steps.rows.error(row, chosen.of(agent)[0], text)
        return actions.astype(np.int64)

    def _numbered(self, rows: Rows, name: str) -> np.ndarray:
        """Reads whole numbers, as float64: int64 cannot hold every one of them."""
        values = cells.numbers(rows, name, gaps=self._gaps)
        given = np.where(np.isnan(values), NO_ACTION, values)
        wrong = (given != given.round()) | ((given < 0) & ~np.isnan(values))
        if wrong.any():
            place = tuple(int(n) for n in np.argwhere(wrong)[0])
            text = f"{values[place]:g} is no action; they are whole numbers from 0"
            raise rows.error(place[0], name, text)
        return given

    def _labelled(self, rows: Rows, name: str) -> np.ndarray:
        found = cells.names(rows, name, gaps=self._gaps)
        known = self._labels
        index = np.array(
            # pandas writes 2 as 2.0 in a column with gaps.
            [known.get(t, known.get(t.removesuffix(".0"), -2)) for t in found],
            np.int64,
        )
        index[found == ""] = NO_ACTION
        if (index < NO_ACTION).any():
            place = int((index < NO_ACTION).argmax())
            text = f"{shown(found[place])} is not among the labels of the map."
            raise rows.error(place, name, text + suggest(found[place], self._labels))
        return index

    def _check_legal(
        self, steps: Steps, selection: Selection, agents: np.ndarray | None
    ) -> None:
        """Raises an error for masks without an action and for actions not allowed."""
        if "mask" not in steps.arrays:
            return
        mask, actions = steps.arrays["mask"], steps.arrays["actions"]
        acts = actions != NO_ACTION
        stuck = ~mask.any(axis=2) & acts
        if stuck.any():
            row, agent = (int(n) for n in np.argwhere(stuck)[0])
            name = selection.keys["mask"].of(agent)[0]
            who = self._map.agents[agent if agents is None else agents[row]]
            text = f"the mask leaves {who} without an action"
            raise steps.rows.error(row, name, text)
        taken = np.take_along_axis(mask, np.maximum(actions, 0)[..., None], axis=2)
        wrong = (taken[..., 0] == 0) & acts
        if wrong.any():
            row, agent = (int(n) for n in np.argwhere(wrong)[0])
            text = f"{actions[row, agent]} is not allowed by the mask"
            name = selection.keys["action"].of(agent)[0]
            raise steps.rows.error(row, name, text)

    def _grouped(self, flat: Iterator[Steps]) -> Iterator[Steps]:
        """Joins the agents' rows of each step."""
        held: Steps | None = None
        for more in flat:
            rows = more if held is None else joined(held, more)
            last = int(_changes(rows)[-1])
            if last:
                yield self._group(rows[:last])
            held = rows[last:]
        if held is not None:
            yield self._group(held)

    def _group(self, rows: Steps) -> Steps:
        """Builds joint steps ``[R, N, ...]`` from rows of one agent each."""
        starts = _changes(rows)
        counts = np.diff([*starts, len(rows)])
        agents = rows.arrays["agent"]
        if (counts != self._agents).any():
            at = int((counts != self._agents).argmax())
            self._refuse_team(rows, int(starts[at]), int(counts[at]))
        teams = agents.reshape(-1, self._agents)
        order = teams.argsort(axis=1)
        whole = np.take_along_axis(teams, order, 1) == np.arange(self._agents)
        if not whole.all():
            at = int((~whole.all(axis=1)).argmax())
            self._refuse_team(rows, int(starts[at]), self._agents)
        index = (order + starts[:, None]).reshape(-1)
        numbers = rows.rows.numbers[index].reshape(-1, self._agents)
        arrays: dict[str, np.ndarray] = {"numbers": numbers}
        for key, array in rows.arrays.items():
            if key in ("episode", "time"):
                arrays[key] = array[starts]
            elif key in ("state", "next.state"):
                arrays[key] = self._same(rows, key, array, starts)
            elif key != "agent":
                team = array[index].reshape(-1, self._agents, *array.shape[1:])
                # [R, N, 1, ...]: a row has one agent.
                arrays[key] = team[:, :, 0]
        return Steps(rows[starts].rows, rows.columns, arrays)

    def _refuse_team(self, rows: Steps, start: int, count: int) -> None:
        agents = rows.arrays["agent"][start : start + count].tolist()
        twice = next((i for n, i in enumerate(agents) if i in agents[:n]), None)
        names = self._map.agents
        if twice is not None:
            place = start + len(agents) - 1 - agents[::-1].index(twice)
            text = f"{names[twice]} is there twice at this time; rows may be repeated"
            raise rows.error(place, "agent", text)
        missing = next(i for i in range(self._agents) if i not in agents)
        text = (
            f"there is no row of {names[missing]} at this time. Rows of one time must"
            " follow each other, with every agent once"
        )
        raise rows.error(start + len(agents) - 1, "agent", text)

    def _same(
        self, rows: Steps, key: str, array: np.ndarray, starts: np.ndarray
    ) -> np.ndarray:
        """Returns values that must be equal for all agents of a step."""
        teams = array.reshape(len(starts), self._agents, -1)
        wrong = (teams != teams[:, :1]).any(axis=2)
        if wrong.any():
            step, agent = (int(n) for n in np.argwhere(wrong)[0])
            text = f"'{key}' differs between the agents of a step"
            raise rows.error(int(starts[step]) + agent, key, text)
        return teams[:, 0]


def _changes(rows: Steps) -> np.ndarray:
    """Returns the first row of each step."""
    new = np.ones(len(rows), bool)
    time = rows.arrays["time"]
    new[1:] = time[1:] != time[:-1]
    if "episode" in rows.arrays:
        episode = rows.arrays["episode"]
        new[1:] |= episode[1:] != episode[:-1]
    return np.flatnonzero(new)


def _padded(parts: list[np.ndarray]) -> np.ndarray:
    """Stacks the agents' numbers as float32 ``[R, n, D]``, padded with zeros."""
    size = max(part.shape[1] for part in parts)
    found = np.zeros((len(parts[0]), len(parts), size), np.float32)
    for agent, part in enumerate(parts):
        found[:, agent, : part.shape[1]] = part
    return found
