"""Writes a first map from the names of columns, and from the first rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import yaml

from rllib_risk.data.importing import cells
from rllib_risk.data.importing.csv_files import SEPARATORS, header
from rllib_risk.data.importing.mapping import AGENT
from rllib_risk.data.importing.sources import find_files, open_table
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
_SEPARATORS_OF_NAMES = r"[._/ -]"
_MOST_LABELS = 1000


@dataclass
class Guess:
    """A first map.

    Attributes:
        text: The map in YAML, with what could not be guessed in comments.
        notes: What was guessed and what was not, a line each.
    """

    text: str = ""
    notes: list[str] = field(default_factory=list)


def _pattern(name: str, agent: str) -> str:
    """The name of a column with a place for the agent, where it stands by itself."""
    alone = rf"(?<![^._/ -]){re.escape(agent)}(?![^._/ -])"
    return re.sub(alone, AGENT, name, count=1)


def infer_map(sources: Sequence[str | Path]) -> Guess:
    """Guesses a map from the first file: its columns and its first rows.

    Args:
        sources: Files, folders or patterns.

    Returns:
        The map, and what was guessed.

    Raises:
        DatasetError: If the file cannot be read.
    """
    file = find_files(sources)[0]
    layout = _layout(file)
    table = open_table(file, layout)
    rows = next(table.read(table.names), None)
    if rows is None or not len(rows):
        raise DatasetError(f"{file}: there is no row")
    return _Guesser(table, rows, layout).guess()


def _layout(file: Path) -> Layout:
    """The separator that makes most columns, and the decimal that goes with it."""
    if not file.name.lower().endswith((".csv", ".csv.gz", ".tsv")):
        return Layout()
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
    """Guesses key after key, from what is left of the columns."""

    def __init__(self, table: Table, rows: Rows, layout: Layout) -> None:
        self._table, self._rows, self._layout = table, rows, layout
        self._left = list(table.names)
        self._found: dict[str, object] = {}
        self._guess = Guess()
        self._open: list[str] = []

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
        self._ends()
        if self._left:
            self._note(f"Not used: {', '.join(map(repr, self._left[:20]))}.")
        self._write()
        return self._guess

    def _note(self, text: str) -> None:
        self._guess.notes.append(text)

    def _set(self, key: str, value: object) -> None:
        self._found[key] = value
        self._note(f"Guessed {key}: {_yaml(value)}")

    def _miss(self, key: str, text: str) -> None:
        self._open.append(f"{key}: {text}")
        self._note(f"Not guessed: {key}: {text}")

    def _take_one(self, names: Sequence[str]) -> str | None:
        """Takes the first column that has one of the names, whatever its case."""
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
        """Takes columns out of those that are left."""
        taken = set(names)
        self._left = [name for name in self._left if name not in taken]

    def _long(self, agent: str) -> None:
        agents = sorted(set(cells.names(self._rows, agent).tolist()), key=_natural)
        self._found = {"form": "long", "agents": agents, "agent": agent, **self._found}
        self._note(f"Guessed form: long, with agents {_yaml(agents)}")
        if (action := self._take_one((*_ACTION, "a"))) is not None:
            self._actions(action, [action])
        else:
            self._miss("action", "no column is called 'action'.")
        for prefix in ("", *_NEXT):
            for key, words in (("mask", _MASK), ("state", _STATE)):
                if taken := self._take(f"{prefix}{_with_number(words)}"):
                    self._place(key, prefix, taken)
            if taken := self._take(f"{prefix}{_with_number(_OBSERVATION)}"):
                self._place("observation", prefix, taken)
        if "observation" not in self._found:
            self._rest_as_observation(self._left)

    def _wide(self) -> None:
        part = _SEPARATORS_OF_NAMES
        # "a" may be an agent as well: only where no whole word is there
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
        self._note(f"Guessed form: wide, with agents {_yaml(agents)}")
        taken = list(actions.values())
        self._drop(taken)
        self._actions(_pattern(taken[0], agents[0]), taken)
        if "reward" not in self._found:
            self._rewards(agents)
        for prefix in ("", *_NEXT):
            if taken := self._take(f"{prefix}{_with_number(_STATE)}"):
                self._place("state", prefix, taken)
            for key, words in (("mask", _MASK), ("observation", _OBSERVATION)):
                self._of_agents(key, prefix, words, agents)
        if "observation" not in self._found:
            mine = {
                a: [n for n in self._left if re.match(rf"{re.escape(a)}{part}", n)]
                for a in agents
            }
            patterns = [_pattern(n, agents[0]) for n in mine[agents[0]]]
            complete = patterns and all(
                [_pattern(n, a) for n in names] == patterns for a, names in mine.items()
            )
            if complete:
                self._drop(chain.from_iterable(mine.values()))
                self._set("observation", _short(patterns))
            else:
                self._miss("observation", 'such as "obs_{agent}_*".')

    def _actions_of_agents(self, word: str) -> dict[str, str]:
        """Columns of actions by agent, in the order of names that finds more."""
        part = _SEPARATORS_OF_NAMES
        before = self._matching(rf"(?P<agent>.+?){part}(?:{word})")
        after = self._matching(rf"(?:{word}){part}(?P<agent>.+)")
        return max(before, after, key=len)

    def _matching(self, form: str) -> dict[str, str]:
        """Columns by what stands for an agent in them."""
        found = {}
        for name in self._left:
            match = re.fullmatch(form, name, re.IGNORECASE)
            if match and not name.lower().startswith((*_NEXT, "last_", "prev_")):
                found[match["agent"]] = name
        return found

    def _of_agents(
        self, key: str, prefix: str, words: Sequence[str], agents: list[str]
    ) -> None:
        """Finds columns of a kind that are there for every agent."""
        part, word = _SEPARATORS_OF_NAMES, "|".join(words)
        for order in (
            r"{prefix}{agent}{part}({word})({part}?\d+)?",
            r"{prefix}({word}){part}{agent}({part}.+)?",
            r"({word}){part}{prefix}{agent}({part}.+)?",
        ):
            forms = [
                order.format(prefix=prefix, agent=re.escape(a), part=part, word=word)
                for a in agents
            ]
            found = [
                [n for n in self._left if re.fullmatch(f, n, re.IGNORECASE)]
                for f in forms
            ]
            if all(found):
                self._drop(chain.from_iterable(found))
                patterns = [_pattern(n, agents[0]) for n in found[0]]
                self._put(key, prefix, _short(patterns))
                return

    def _place(self, key: str, prefix: str, taken: list[str]) -> None:
        self._put(key, prefix, _short(taken))

    def _put(self, key: str, prefix: str, value: object) -> None:
        if not prefix:
            self._set(key, value)
            return
        following = self._found.setdefault("next", {})
        assert isinstance(following, dict)
        following[key] = value
        self._note(f"Guessed next.{key}: {_yaml(value)}")

    def _rewards(self, agents: list[str]) -> None:
        part, word = _SEPARATORS_OF_NAMES, "reward|rew|r"
        for form in (r"{a}{part}({word})", r"({word}){part}{a}"):
            found = [
                [
                    n
                    for n in self._left
                    if re.fullmatch(
                        form.format(a=re.escape(a), part=part, word=word), n, re.I
                    )
                ]
                for a in agents
            ]
            if all(len(names) == 1 for names in found):
                self._drop(chain.from_iterable(found))
                name = _pattern(found[0][0], agents[0])
                self._set("reward", {"columns": name, "team": "sum"})
                self._note("  team: sum is a guess; mean and shared are possible.")
                return
        self._miss("reward", "the column of the team's reward.")

    def _actions(self, pattern: str, names: list[str]) -> None:
        """Number of actions, or their labels, of the first rows."""
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
            labels = sorted(found, key=_natural)
            value["labels"] = labels[:_MOST_LABELS]
            hint = "the labels of the first rows, in the order of the alphabet"
        self._set("action", value)
        self._note(f"  {hint}: add actions that are not taken there.")
        if self._has_gaps(names[0]):
            self._set("final", "row")
            self._note("  rows without an action hold the last observation.")

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
        self._set("observation", _short(names))
        self._note("  all columns that were left: take out what agents do not see.")

    def _ends(self) -> None:
        if "reward" not in self._found and not any("reward" in o for o in self._open):
            self._miss("reward", "the column of the team's reward.")
        has_end = "terminated" in self._found
        if not has_end and not {"episode", "truncated"} & set(self._found):
            self._miss("episode", "the column with the episode, or 'terminated'.")
        if not has_end:
            self._miss(
                "end",
                "'terminated', or 'truncated' where a time limit cut an episode off.",
            )
        elif "truncated" not in self._found:
            self._note("  Is every end a true end? A time limit belongs to truncated.")
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
            *(f"{key}: {_yaml(value)}" for key, value in self._found.items()),
            *(f"# NOT GUESSED {text}" for text in self._open),
        ]
        self._guess.text = "\n".join(lines) + "\n"


def _with_number(words: Sequence[str]) -> str:
    return rf"({'|'.join(words)})({_SEPARATORS_OF_NAMES}?\d+|{_SEPARATORS_OF_NAMES}.+)?"


def _short(names: list[str]) -> object:
    """One pattern for names that differ in a number at their end, or the names."""
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"\d+$", "", name) for name in names}
    if len(stems) == 1 and (stem := stems.pop()):
        return f"{stem}*"
    return names


def _natural(name: str) -> list[object]:
    """Sorts uav_10 after uav_2."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", name)]


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
