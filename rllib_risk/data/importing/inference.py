"""Writes a first map from the names of columns, and from the first rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np

from rllib_risk.data.importing import cells
from rllib_risk.data.importing.csv_files import SEPARATORS, header
from rllib_risk.data.importing.episode_column import find_episode
from rllib_risk.data.importing.name_patterns import SEPARATORS as _PART
from rllib_risk.data.importing.name_patterns import (
    natural,
    one_line,
    short,
    with_agent,
    with_number,
)
from rllib_risk.data.importing.sources import find_files, open_table, readable
from rllib_risk.data.importing.tables import Layout, Rows, Table
from rllib_risk.data.rows import DatasetError

_AGENT = ("agent", "agent_id", "agent_name", "player", "unit")
_ACTION = ("action", "actions", "act", "choice", "control")
_SINGLE = {
    "episode": (
        *("episode", "episode_id", "ep", "eps_id", "run", "run_id"),
        *("trajectory", "traj"),
    ),
    "time": ("t", "time", "step", "timestep", "time_step", "timestamp"),
    "reward": ("reward", "rewards", "team_reward", "rew"),
    "terminated": (
        *("terminated", "terminateds", "terminal", "terminals"),
        *("termination", "done", "dones"),
    ),
    "truncated": ("truncated", "truncateds", "truncation", "timeout", "timeouts"),
}
_OBSERVATION = ("obs", "observation", "observations", "o", "feature", "features")
_MASK = (
    *("mask", "action_mask", "avail", "avail_actions"),
    *("available_actions", "legal", "legals"),
)
_STATE = ("state", "global_state", "share_obs", "s")
_NEXT = ("next_", "new_")
_MAX_LABELS = 1000


@dataclass
class Guess:
    """A first map.

    Attributes:
        text: The map in YAML. Comments name the keys that could not be guessed.
        notes: Lines that report what was guessed and what was not.
    """

    text: str = ""
    notes: list[str] = field(default_factory=list)


def infer_map(sources: Sequence[str | Path]) -> Guess:
    """Guesses a map from the columns and the first rows of the first file.

    Args:
        sources: Files, folders or patterns.

    Returns:
        The map and notes about the guesses.

    Raises:
        DatasetError: If the file cannot be read or has no row.
    """
    file = find_files(sources)[0]
    layout = _layout(file)
    table = open_table(file, layout)
    rows = next(table.read(table.names), None)
    if rows is None or not len(rows):
        raise DatasetError(f"{file}: there is no row")
    return _Guesser(table, rows, layout).guess()


def _layout(file: Path) -> Layout:
    """Finds the separator that gives most columns, and the decimal character."""
    if not file.name.lower().endswith((".csv", ".csv.gz", ".tsv")):
        return Layout()
    with readable(file):
        separator = max(SEPARATORS, key=lambda s: len(header(file, s)))
    layout = Layout(separator, ".")
    if separator == ",":
        return layout
    table = open_table(file, layout)
    for rows in table.read(table.names):
        for column in rows.columns.values():
            texts = column.slice(0, 100).to_pylist()
            if any(re.fullmatch(r"\s*-?\d+,\d+([eE][-+]?\d+)?\s*", t) for t in texts):
                return Layout(separator, ",")
        break
    return layout


class _Guesser:
    """Guesses one key after another from the columns that are left."""

    def __init__(self, table: Table, rows: Rows, layout: Layout) -> None:
        self._table, self._rows, self._layout = table, rows, layout
        self._left = list(table.names)
        self._found: dict[str, object] = {}
        self._guess = Guess()
        self._open: list[str] = []
        self._why: dict[str, str] = {}
        self._no_episode = ""

    def guess(self) -> Guess:
        self._note(f"{self._table.file}: {len(self._left)} columns.")
        agent = self._take_one(_AGENT)
        for key, names in _SINGLE.items():
            if (name := self._take_one(names)) is not None:
                self._set(key, name)
        if agent is None:
            self._wide()
        else:
            self._long(agent)
        self._episode()
        if agent is not None and "observation" not in self._found:
            self._rest_as_observation(self._left)
        self._ends()
        if self._left:
            self._note(f"Not used: {', '.join(map(repr, self._left[:20]))}.")
        self._write()
        return self._guess

    def _note(self, text: str) -> None:
        self._guess.notes.append(text)

    def _set(self, key: str, value: object, why: str = "") -> None:
        self._found[key] = value
        self._note(f"Guessed {key}: {one_line(value)}")
        if why:
            self._explain(key, why)

    def _explain(self, key: str, why: str) -> None:
        """Adds a remark on a key to the notes and to the map."""
        self._why[key] = why
        self._note(f"  {why}.")

    def _miss(self, key: str, text: str) -> None:
        self._open.append(f"{key}: {text}")
        self._note(f"Not guessed: {key}: {text}")

    def _take_one(self, names: Sequence[str]) -> str | None:
        """Takes the first column with one of the names, in upper or lower case."""
        for wanted in names:
            for name in self._left:
                if name.lower() == wanted:
                    self._left.remove(name)
                    return name
        return None

    def _take(self, pattern: str) -> list[str]:
        """Takes all columns that match a regular expression."""
        form = re.compile(pattern, re.IGNORECASE)
        taken = [name for name in self._left if form.fullmatch(name)]
        self._drop(taken)
        return taken

    def _drop(self, names: Iterable[str]) -> None:
        """Removes columns from those that are left."""
        taken = set(names)
        self._left = [name for name in self._left if name not in taken]

    def _long(self, agent: str) -> None:
        agents = sorted(set(cells.names(self._rows, agent).tolist()), key=natural)
        self._found = {"form": "long", "agents": agents, "agent": agent, **self._found}
        self._note(f"Guessed form: long, with agents {one_line(agents)}")
        if (action := self._take_one((*_ACTION, "a"))) is not None:
            self._actions(action, [action])
        else:
            self._miss("action", "no column is called 'action'.")
        for prefix in ("", *_NEXT):
            for key, words in (("mask", _MASK), ("state", _STATE)):
                if taken := self._take(f"{prefix}{with_number(words)}"):
                    self._place(key, prefix, taken)
            if taken := self._take(f"{prefix}{with_number(_OBSERVATION)}"):
                self._place("observation", prefix, taken)

    def _wide(self) -> None:
        # "a" may also be an agent, so it counts only if no whole word matches
        actions = self._actions_of_agents("|".join(_ACTION))
        actions = actions or self._actions_of_agents("a")
        if not actions:
            self._found = {"form": "wide", **self._found}
            self._miss(
                "agents",
                "no columns such as 'uav_0_action' or 'action_uav_0' name agents."
                " Write their names here.",
            )
            self._miss("action", 'such as "action_{agent}".')
            self._miss("observation", 'such as "obs_{agent}_*".')
            return
        agents = list(actions)
        self._found = {"form": "wide", "agents": agents, **self._found}
        self._note(f"Guessed form: wide, with agents {one_line(agents)}")
        taken = list(actions.values())
        self._drop(taken)
        self._actions(with_agent(taken[0], agents[0]), taken)
        if "reward" not in self._found:
            self._rewards(agents)
        for prefix in ("", *_NEXT):
            if taken := self._take(f"{prefix}{with_number(_STATE)}"):
                self._place("state", prefix, taken)
            for key, words in (("mask", _MASK), ("observation", _OBSERVATION)):
                self._of_agents(key, prefix, words, agents)
        if "observation" not in self._found:
            mine = {
                a: [n for n in self._left if re.match(rf"{re.escape(a)}{_PART}", n)]
                for a in agents
            }
            patterns = [with_agent(n, agents[0]) for n in mine[agents[0]]]
            complete = patterns and all(
                [with_agent(n, a) for n in names] == patterns
                for a, names in mine.items()
            )
            if complete:
                self._drop(chain.from_iterable(mine.values()))
                self._set("observation", short(patterns))
            else:
                self._miss("observation", 'such as "obs_{agent}_*".')

    def _actions_of_agents(self, word: str) -> dict[str, str]:
        """Finds action columns by agent, in the order of words that matches more."""
        before = self._matching(rf"(?P<agent>.+?){_PART}(?:{word})")
        after = self._matching(rf"(?:{word}){_PART}(?P<agent>.+)")
        return max(before, after, key=len)

    def _matching(self, form: str) -> dict[str, str]:
        """Finds columns that match a pattern, by the agent's name in them."""
        found = {}
        for name in self._left:
            match = re.fullmatch(form, name, re.IGNORECASE)
            if match and not name.lower().startswith((*_NEXT, "last_", "prev_")):
                found[match["agent"]] = name
        return found

    def _of_agents(
        self, key: str, prefix: str, words: Sequence[str], agents: list[str]
    ) -> None:
        """Finds columns of a kind that exist for every agent."""
        word = "|".join(words)
        for order in (
            r"{prefix}{agent}{_PART}({word})({_PART}?\d+)?",
            r"{prefix}({word}){_PART}{agent}({_PART}.+)?",
            r"({word}){_PART}{prefix}{agent}({_PART}.+)?",
        ):
            forms = [
                order.format(prefix=prefix, agent=re.escape(a), _PART=_PART, word=word)
                for a in agents
            ]
            found = [
                [n for n in self._left if re.fullmatch(f, n, re.IGNORECASE)]
                for f in forms
            ]
            if all(found):
                self._drop(chain.from_iterable(found))
                patterns = [with_agent(n, agents[0]) for n in found[0]]
                self._put(key, prefix, short(patterns))
                return

    def _place(self, key: str, prefix: str, taken: list[str]) -> None:
        self._put(key, prefix, short(taken))

    def _put(self, key: str, prefix: str, value: object) -> None:
        if not prefix:
            self._set(key, value)
            return
        following = self._found.setdefault("next", {})
        assert isinstance(following, dict)
        following[key] = value
        self._note(f"Guessed next.{key}: {one_line(value)}")

    def _rewards(self, agents: list[str]) -> None:
        word = "reward|rew|r"
        for form in (r"{a}{_PART}({word})", r"({word}){_PART}{a}"):
            found = [
                [
                    n
                    for n in self._left
                    if re.fullmatch(
                        form.format(a=re.escape(a), _PART=_PART, word=word), n, re.I
                    )
                ]
                for a in agents
            ]
            if all(len(names) == 1 for names in found):
                self._drop(chain.from_iterable(found))
                name = with_agent(found[0][0], agents[0])
                team = {"columns": name, "team": "sum"}
                self._set(
                    "reward", team, "sum is a guess; mean and shared are possible"
                )
                return
        self._miss("reward", "the column of the team's reward.")

    def _actions(self, pattern: str, names: list[str]) -> None:
        """Guesses the number of actions, or their labels, from the first rows."""
        value: dict[str, object] = {"columns": pattern}
        try:
            given = [cells.numbers(self._rows, n, gaps=True) for n in names]
            value["count"] = int(max(np.nanmax(a, initial=0) for a in given)) + 1
            hint = "the greatest action of the first rows and one more"
        except DatasetError:
            try:
                texts = [cells.names(self._rows, n, gaps=True) for n in names]
            except DatasetError:
                self._set("action", pattern)
                self._miss("action", "these are neither numbers nor texts.")
                return
            found = {text for column in texts for text in column} - {""}
            labels = sorted(found, key=natural)
            value["labels"] = labels[:_MAX_LABELS]
            hint = "the labels of the first rows, in the order of the alphabet"
        self._set("action", value, f"{hint}: add actions that are not taken there")
        if self._has_gaps(names[0]):
            self._set(
                "final", "row", "rows without an action hold the last observation"
            )

    def _has_gaps(self, name: str) -> bool:
        """Whether a column has empty cells."""
        try:
            cells.names(self._rows, name)
        except DatasetError:
            return True
        return False

    def _rest_as_observation(self, names: list[str]) -> None:
        if not names:
            self._miss("observation", 'such as "obs_*".')
            return
        self._drop(names)
        why = "all columns that were left: take out what agents do not see"
        self._set("observation", short(names), why)

    def _episode(self) -> None:
        """Finds the episode by values if no column has a usual name."""
        if "episode" in self._found:
            return
        time = cast("str | None", self._found.get("time"))
        wide = self._found["form"] == "wide" and "agents" in self._found
        name, why = find_episode(self._rows, self._left, time, whole_team=wide)
        if name is None:
            self._no_episode = why
        else:
            self._drop([name])
            self._set("episode", name, why)

    def _ends(self) -> None:
        if "reward" not in self._found and not any("reward" in o for o in self._open):
            self._miss("reward", "the column of the team's reward.")
        has_end = "terminated" in self._found
        if not has_end and not {"episode", "truncated"} & set(self._found):
            named = "the column with the episode, or 'terminated'"
            self._miss("episode", f"{named}: {self._no_episode}")
        if not has_end:
            self._miss(
                "end",
                "'terminated', or 'truncated' where a time limit cut an episode off.",
            )
        elif "truncated" not in self._found:
            self._explain(
                "terminated", "if ends by a time limit are among these, see truncated"
            )
        if "time" not in self._found:
            self._note("No column of time: gaps between rows cannot be seen.")
        if "state" not in self._found:
            self._note(
                "No state was found. 'state: observations' joins what all agents"
                " observe; mixers such as QMIX's need a state."
            )

    def _write(self) -> None:
        if self._layout.separator != ",":
            self._set("separator", self._layout.separator)
        if self._layout.decimal != ".":
            self._set("decimal", self._layout.decimal)
        lines = [
            f"# Guessed from {self._table.file.name}. Check every line.",
            *(self._line(key, value) for key, value in self._found.items()),
            *(f"# NOT GUESSED {text}" for text in self._open),
        ]
        self._guess.text = "\n".join(lines) + "\n"

    def _line(self, key: str, value: object) -> str:
        line = f"{key}: {one_line(value)}"
        return f"{line}  # {self._why[key]}" if key in self._why else line
