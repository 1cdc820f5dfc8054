"""Record of one greedy episode with the agents' risk levels, utilities and atoms.

Letters: ``L`` steps, ``N`` agents, ``A`` actions, ``M`` atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class EpisodeTrace:
    """The record of an episode.

    Attributes:
        agents: Names of the agents.
        rewards: Team rewards, float64 ``[L]``.
        actions: Actions taken, int64 ``[L, N]``.
        action_mask: True where an action was available, bool ``[L, N, A]``.
        risk_levels: Risk levels, float64 ``[L, N]``; 1 if no level is used.
        values: Utilities of all actions, float32 ``[L, N, A]``.
        atoms: Ascending atoms of all actions, float32 ``[L, N, A, M]``.
        weights: Weight of each atom in the utility of an action, float64 ``[L, N, M]``.
            None if the risk measure does not weight atoms by their order, or acting
            uses another number of atoms than learning.
        metrics: Metrics that the environment reported at the end.
    """

    agents: tuple[str, ...]
    rewards: np.ndarray
    actions: np.ndarray
    action_mask: np.ndarray
    risk_levels: np.ndarray
    values: np.ndarray
    atoms: np.ndarray
    weights: np.ndarray | None
    metrics: dict[str, float]
