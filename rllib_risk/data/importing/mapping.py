"""The map of an import: which columns of the files are what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rllib_risk.config.schema import ConfigError
from rllib_risk.config.yaml_reader import Document
from rllib_risk.data.importing.tables import Layout

AGENT = "{agent}"

Names = tuple[str, ...]


@dataclass(frozen=True)
class ColumnMap:
    """Which columns are what; a column may be a pattern with ``*`` and ``{agent}``.

    Attributes:
        document: The map as it was read, for messages.
        form: ``wide``: a row is a step of all agents. ``long``: of one agent.
        agents: Their names, in the order of all arrays.
        agent: Column with the agent's name, in the long form.
        observation: Columns of an agent's observation.
        action: Columns of the action, one per agent.
        labels: What the actions are called in the data, in their order; empty: they
            are numbers from 0.
        counts: Number of actions of each agent; None: that of the labels or the mask.
        reward: Columns of the reward.
        team: How rewards of agents make that of the team.
        episode: Column with the episode's name; None: ends are flagged.
        per_file: Whether names of episodes count within their file.
        time: Column with the time; None: rows are in order.
        step: Difference of two times that follow each other; None: it may vary.
        terminated: Columns of the flag of a true end.
        truncated: Columns of the flag of an episode that was cut off.
        end: What an end without a flag is, where ``terminated`` is not there.
        state: Columns of the state, or ``observations``.
        mask: Columns of the action mask.
        next: Columns of ``observation``, ``state`` and ``mask`` after the step.
        final: ``row`` if each episode's last row has an observation and no action.
        layout: Of CSV files.
    """

    document: Document
    form: str
    agents: Names
    agent: str | None
    observation: Names
    action: Names
    labels: Names
    counts: tuple[int, ...] | None
    reward: Names
    team: str
    episode: str | None
    per_file: bool
    time: str | None
    step: float | None
    terminated: Names
    truncated: Names
    end: str | None
    state: Names
    mask: Names
    next: Mapping[str, Names] = field(default_factory=dict)
    final: str = "none"
    layout: Layout = field(default_factory=Layout)

    @property
    def is_long(self) -> bool:
        """Whether a row is of one agent."""
        return self.form == "long"

    def error(self, message: str, *path: str | int) -> ConfigError:
        """An error that names the file and line of a key."""
        return self.document.error(message, *path)
