"""Reads the map of an import from YAML. Errors name the line of the mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_risk.config.schema import ConfigError, shown, suggest
from rllib_risk.config.yaml_reader import Document, read_yaml
from rllib_risk.data.arrays import OBSERVATIONS
from rllib_risk.data.importing.mapping import ColumnMap, Names
from rllib_risk.data.importing.tables import Layout

TEAM_REWARDS = ("shared", "sum", "mean")
_KEYS = (
    *("form", "agents", "agent", "observation", "action", "reward", "episode", "time"),
    *("terminated", "truncated", "end", "state", "mask", "next", "final"),
    *("separator", "decimal"),
)
_MAX_AGENTS = 10_000
_MAX_ACTIONS = 100_000


def read_map(path: Path) -> ColumnMap:
    """Reads and checks a map.

    Args:
        path: A YAML file.

    Returns:
        The map.

    Raises:
        ConfigError: If the file is unreadable, or a key is missing, unknown or invalid.
    """
    return _Reader(read_yaml(path)).map()


class _Reader:
    """Reads the keys of a map, and names their lines in errors."""

    def __init__(self, document: Document) -> None:
        self._document = document
        if not isinstance(document.data, dict):
            raise document.error("a map must hold keys such as 'form' and 'agents'.")
        self._values: dict[Any, Any] = document.data
        self._known(self._values, _KEYS)

    def map(self) -> ColumnMap:
        form = self._choice("form", ("wide", "long"))
        agents = self._agents()
        action, labels, counts = self._action(agents)
        reward, team = self._reward(form)
        episode, per_file = self._episode()
        time, step = self._time()
        found = ColumnMap(
            self._document,
            form=form,
            agents=agents,
            agent=self._text("agent", None),
            observation=self._columns("observation", needed=True),
            action=action,
            labels=labels,
            counts=counts,
            reward=reward,
            team=team,
            episode=episode,
            per_file=per_file,
            time=time,
            step=step,
            terminated=self._columns("terminated"),
            truncated=self._columns("truncated"),
            end=self._choice("end", ("terminated", "truncated"), None),
            state=self._columns("state"),
            mask=self._columns("mask"),
            next=self._next(),
            final=self._choice("final", ("none", "row"), "none"),
            layout=Layout(
                self._character("separator", ","), self._character("decimal", ".")
            ),
        )
        self._check(found)
        return found

    def _check(self, found: ColumnMap) -> None:
        """Raises an error for keys that need or exclude each other."""
        rules: list[tuple[bool, str, str]] = [
            (
                found.is_long and found.agent is None,
                "form",
                "long needs 'agent', the column with the agent's name.",
            ),
            (
                found.is_long and found.time is None,
                "form",
                "long needs 'time': rows of one time are one step.",
            ),
            (
                not found.is_long and found.agent is not None,
                "agent",
                "belongs to form: long.",
            ),
            (
                found.counts is None and not found.labels and not found.mask,
                "action",
                "the number of actions is not known. Give 'count', 'labels' or a"
                " 'mask' beside it: an action that the data never take counts too.",
            ),
            (
                not (found.episode or found.per_file or found.terminated)
                and not found.truncated,
                "episode",
                "nothing says where an episode ends. Give 'episode', 'terminated' or"
                " 'truncated'.",
            ),
            (
                not found.terminated and found.end is None,
                "end",
                "is missing. Without 'terminated', say what the end of an episode is:"
                " 'terminated', or 'truncated' if it was cut off, as by a time limit.",
            ),
            (
                bool(found.terminated) and found.end is not None,
                "end",
                "does not go with 'terminated', which says it.",
            ),
            (
                found.final == "row" and not (found.episode or found.per_file),
                "final",
                "row needs 'episode', which says where an episode ends.",
            ),
            (
                found.final == "row" and bool(found.next),
                "final",
                "row does not go with 'next', which has the last observation.",
            ),
            (
                found.layout.separator == found.layout.decimal,
                "decimal",
                "must differ from 'separator'.",
            ),
        ]
        for wrong, key, text in rules:
            if wrong:
                raise self._error(f"{key}: {text}", key)
        self._check_next(found)

    def _check_next(self, found: ColumnMap) -> None:
        if not found.next:
            return
        has_state = bool(found.state) and found.state != (OBSERVATIONS,)
        has = {"observation": True, "state": has_state, "mask": bool(found.mask)}
        for key, needed in has.items():
            if needed and key not in found.next:
                text = f"'{key}' is missing, and '{key}' is given for the rows."
                raise self._error(f"next: {text}", "next")
            if key in found.next and not needed:
                text = f"next.{key}: there is no '{key}' of the rows."
                raise self._error(text, "next", key)

    def _error(self, message: str, *path: str | int) -> ConfigError:
        return self._document.error(message, *path)

    def _known(self, values: Mapping[Any, Any], keys: Sequence[str], *at: str) -> None:
        for key in values:
            if key not in keys:
                text = f"unknown key {shown('.'.join([*at, str(key)]))}; there are"
                text += f" {', '.join(keys)}." + suggest(str(key), keys)
                raise self._error(text, *at, str(key))

    def _get(self, key: str, *at: str) -> Any:
        values = self._values
        for part in at:
            values = values[part]
        return values.get(key)

    def _choice(self, key: str, choices: Names, *default: Any) -> Any:
        value = self._get(key)
        if value is None and default:
            return default[0]
        if not isinstance(value, str) or value not in choices:
            found = "it is missing" if value is None else f"not {shown(value)}"
            text = f"{key}: must be one of {', '.join(choices)}, {found}."
            raise self._error(text + suggest(str(value), choices), key)
        return value

    def _character(self, key: str, default: str) -> str:
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) != 1 or value in "\"\n\r'":
            text = f"{key}: must be one character in quotes, not {shown(value)}."
            raise self._error(text, key)
        if key == "decimal" and value not in ".,":
            raise self._error(f"{key}: must be '.' or ',', not {shown(value)}.", key)
        return value

    def _name(self, value: Any, *at: str | int) -> str:
        """Converts a value to a column name; a whole number is a valid name."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            key = ".".join(map(str, at))
            hint = " Put it in quotes." if isinstance(value, bool) else ""
            text = f"{key}: must be a name of a column, not {shown(value)}.{hint}"
            raise self._error(text, *at)
        return value.strip()

    def _text(self, key: str, default: str | None, *at: str) -> str | None:
        value = self._get(key, *at)
        return default if value is None else self._name(value, *at, key)

    def _columns(self, key: str, *at: str, needed: bool = False) -> Names:
        value = self._get(key, *at)
        if value is None:
            if needed:
                name = ".".join([*at, key])
                raise self._error(f"{name}: is missing. Name its columns.", *at, key)
            return ()
        if isinstance(value, list):
            found = [self._name(v, *at, key, i) for i, v in enumerate(value)]
            if not found or len(set(found)) < len(found):
                text = f"{key}: must name at least one column, and none twice."
                raise self._error(text, *at, key)
            return tuple(found)
        return (self._name(value, *at, key),)

    def _agents(self) -> Names:
        value = self._get("agents")
        if not isinstance(value, list) or not value:
            text = "agents: must be a list of their names, such as [uav_0, uav_1]."
            raise self._error(text, "agents")
        found = [self._name(v, "agents", i) for i, v in enumerate(value)]
        if len(set(found)) < len(found):
            raise self._error("agents: a name is there twice.", "agents")
        if len(found) > _MAX_AGENTS:
            raise self._error(f"agents: at most {_MAX_AGENTS:,}.", "agents")
        return tuple(found)

    def _action(self, agents: Names) -> tuple[Names, Names, tuple[int, ...] | None]:
        value = self._get("action")
        if not isinstance(value, dict):
            return self._columns("action", needed=True), (), None
        self._known(value, ("columns", "count", "labels"), "action")
        labels, count = value.get("labels"), value.get("count")
        if labels is not None and count is not None:
            text = "action.count: does not go with 'labels', which are counted."
            raise self._error(text, "action", "count")
        found: Names = ()
        if labels is not None:
            if not isinstance(labels, list) or not labels:
                text = "action.labels: must be a list: what action 0, 1, ... is called."
                raise self._error(text, "action", "labels")
            found = tuple(
                self._name(v, "action", "labels", i) for i, v in enumerate(labels)
            )
            if len(set(found)) < len(found):
                text = "action.labels: a label is there twice."
                raise self._error(text, "action", "labels")
        return (
            self._columns("columns", "action", needed=True),
            found,
            None if count is None else self._counts(count, agents),
        )

    def _counts(self, value: Any, agents: Names) -> tuple[int, ...]:
        each = value
        if not isinstance(value, dict):
            each = dict.fromkeys(agents, value)
        each = {str(name): count for name, count in each.items()}
        if set(each) != set(agents):
            text = "action.count: must be one number, or a number for each agent."
            raise self._error(text, "action", "count")
        for count in each.values():
            whole = isinstance(count, int) and not isinstance(count, bool)
            if not whole or not 1 <= count <= _MAX_ACTIONS:
                text = f"must be a whole number from 1 to {_MAX_ACTIONS:,}, not"
                text = f"action.count: {text} {shown(count)}."
                raise self._error(text, "action", "count")
        return tuple(each[name] for name in agents)

    def _reward(self, form: str) -> tuple[Names, str]:
        value = self._get("reward")
        team = "shared"
        if isinstance(value, dict):
            self._known(value, ("columns", "team"), "reward")
            columns = self._columns("columns", "reward", needed=True)
            team = value.get("team", "shared")
            if team not in TEAM_REWARDS:
                text = f"must be one of {', '.join(TEAM_REWARDS)}, not {shown(team)}."
                raise self._error(f"reward.team: {text}", "reward", "team")
        else:
            columns = self._columns("reward", needed=True)
        return columns, team

    def _episode(self) -> tuple[str | None, bool]:
        value = self._get("episode")
        if not isinstance(value, dict):
            return self._text("episode", None), False
        self._known(value, ("column", "per_file"), "episode")
        per_file = value.get("per_file", False)
        if not isinstance(per_file, bool):
            text = f"must be true or false, not {shown(per_file)}."
            raise self._error(f"episode.per_file: {text}", "episode", "per_file")
        column = self._text("column", None, "episode")
        if column is None and not per_file:
            raise self._error("episode: give 'column' or 'per_file: true'.", "episode")
        return column, per_file

    def _time(self) -> tuple[str | None, float | None]:
        value = self._get("time")
        if not isinstance(value, dict):
            return self._text("time", None), None
        self._known(value, ("column", "step"), "time")
        step = value.get("step")
        column = self._name(value.get("column"), "time", "column")
        if step is None:
            return column, None
        if isinstance(step, bool) or not isinstance(step, (int, float)):
            raise self._error("time.step: must be a number.", "time", "step")
        if not 0 < step < float("inf"):
            raise self._error("time.step: must be greater than 0.", "time", "step")
        return column, step

    def _next(self) -> dict[str, Names]:
        value = self._get("next")
        if value is None:
            return {}
        keys = ("observation", "state", "mask")
        if not isinstance(value, dict) or not value:
            text = "next: must hold 'observation', and 'state' and 'mask' if there are."
            raise self._error(text, "next")
        self._known(value, keys, "next")
        return {key: self._columns(key, "next") for key in keys if key in value}
