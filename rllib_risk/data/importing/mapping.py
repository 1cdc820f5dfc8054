"""The map of an import: the meaning of the files' columns."""

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
    """The meaning of columns. A column may be a pattern with ``*`` and ``{agent}``.

    Attributes:
        document: The map as it was read, for messages.
        form: ``wide``: a row is a step of all agents. ``long``: a step of one agent.
        agents: Names of the agents, in the order of all arrays.
        agent: Column with the agent's name, in the long form.
        observation: Columns of an agent's observation.
        action: Columns of the action, one per agent.
        labels: Names of the actions in the data, in order. Empty: actions are numbers
            from 0.
        counts: Number of actions of each agent. None: the number of labels, or of
            actions in the mask.
        reward: Columns of the reward.
        team: Rule for the team's reward: ``shared``, ``sum`` or ``mean`` over agents.
        episode: Column with the episode's name. None: flags or files end episodes.
        per_file: Whether episodes end with their file, and names count within it.
        time: Column with the time. None: rows are in order.
        step: Difference between consecutive times. None: it may vary.
        terminated: Columns of the flag that the episode terminated.
        truncated: Columns of the flag that the episode was truncated.
        end: Kind of an end without ``truncated`` flag, if ``terminated`` is not given.
        state: Columns of the global state, or ``observations``.
        mask: Columns of the action mask.
        next: Columns of ``observation``, ``state`` and ``mask`` after the step.
        final: ``row`` if each episode's last row has an observation and no action.
        layout: Layout of CSV files.
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
        """Whether a row is a step of one agent."""
        return self.form == "long"

    def error(self, message: str, *path: str | int) -> ConfigError:
        """Builds an error that names the file and line of a key."""
        return self.document.error(message, *path)
