"""One greedy episode with all that its agents thought: levels, values and atoms.

Letters: ``L`` steps, ``N`` agents, ``A`` actions, ``M`` atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class EpisodeTrace:
    """An episode step by step.

    Attributes:
        agents: Names.
        rewards: float64 ``[L]``.
        actions: int64 ``[L, N]``.
        action_mask: bool ``[L, N, A]``; True where available.
        risk_levels: float64 ``[L, N]``; 1 where no level is used.
        values: What the agents compared, float32 ``[L, N, A]``.
        atoms: Of all actions, ascending, float32 ``[L, N, A, M]``.
        weights: Of each atom in the value of an action, float64 ``[L, N, M]``, or None
            where the risk measure does not weigh atoms by their order.
        metrics: What the environment reported at the end.
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
