"""Converts column names to patterns, and values of a map to YAML."""

from __future__ import annotations

import re
from collections.abc import Sequence

import yaml

from rllib_risk.data.importing.mapping import AGENT

# Characters that separate words in the name of a column.
SEPARATORS = r"[._/ -]"


def with_agent(name: str, agent: str) -> str:
    """Replaces the agent's name by ``{agent}`` where it is a whole word of a name."""
    alone = rf"(?<![^._/ -]){re.escape(agent)}(?![^._/ -])"
    return re.sub(alone, AGENT, name, count=1)


def with_number(words: Sequence[str]) -> str:
    """Returns a pattern for one of the words, with an optional number or text after."""
    return rf"({'|'.join(words)})({SEPARATORS}?\d+|{SEPARATORS}.+)?"


def short(names: list[str]) -> object:
    """Returns one pattern for names that differ in a final number, else the names."""
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"\d+$", "", name) for name in names}
    if len(stems) == 1 and (stem := stems.pop()):
        return f"{stem}*"
    return names


def natural(name: str) -> list[object]:
    """Returns a sort key that orders uav_10 after uav_2."""
    return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", name)]


def one_line(value: object) -> str:
    """Formats a value of a map as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
