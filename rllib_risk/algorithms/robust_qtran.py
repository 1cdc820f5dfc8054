"""Robust QTRAN: QTRAN-base on a robust target; Qu et al., "Distributionally Robust
Cooperative Multi-Agent Reinforcement Learning via Robust Value Factorization", ICLR
2026.

Idea and targets: see :mod:`rllib_risk.algorithms.robust_vdn`. The critic ``Q_jt``
learns the robust value; QTRAN's constraints make the sum of the agents' values agree
with it where they act greedily.

The three losses have weight 1 each, as in the authors' code. The critic is that of this
package's QTRAN, which reads the state, and features and actions of all agents. The
authors' critic does not read the state, and their state value also reads the features.
Greedy actions come from the online network.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.robust_vdn import PAPER, ROBUST
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class RobustQTRANConfig(ValueConfig):
    """Configuration of Robust QTRAN."""

    overrides: ClassVar[dict[str, Any]] = {
        **ROBUST,
        "mixer": "vdn",
        "joint_critic": "qtran",
        "loss": "qtran",
        "nopt_weight": 1.0,
        "double_q": True,
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {**PAPER, "optimizer": "adam", "lr": 1e-3, "grad_clip": 10.0}
    }


class RobustQTRAN(ValueAlgorithm):
    """Robust QTRAN; see the module's docstring."""

    config_class = RobustQTRANConfig
