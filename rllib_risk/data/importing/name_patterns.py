"""Names of columns as patterns, and values of a map as YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from rllib_risk.data.importing.mapping import AGENT

# What separates words in the name of a column.
SEPARATORS = r"[._/ -]"


def with_agent(name: str, agent: str) -> str:
    """The name of a column with a place for the agent, where it stands by itself."""
    alone = rf"(?<![^._/ -]){re.escape(agent)}(?![^._/ -])"
    return re.sub(alone, AGENT, name, count=1)


def with_number(words: Sequence[str]) -> str:
    """A regular expression for one of the words, with a number or a text behind it."""
    return rf"({'|'.join(words)})({SEPARATORS}?\d+|{SEPARATORS}.+)?"


def short(names: list[str]) -> object:
    """One pattern for names that differ in a number at their end, or the names."""
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"\d+$", "", name) for name in names}
    if len(stems) == 1 and (stem := stems.pop()):
        return f"{stem}*"
    return names


def natural(name: str) -> list[object]:
    """Sorts uav_10 after uav_2."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", name)]


def one_line(value: object) -> str:
    """A value of a map as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
