"""Robust QMIX: QMIX's monotonic mixer on a robust target; Qu et al., "Distributionally
Robust Cooperative Multi-Agent Reinforcement Learning via Robust Value Factorization",
ICLR 2026.

Idea and targets: see :mod:`rllib_risk.algorithms.robust_vdn`. A monotonic mixer is an
admissible factorisation too (their Theorem 2).

The preset ``paper`` has the authors' networks and Adam, which their code always uses,
regardless of its configuration file. Their mixer has linear hypernetworks with small
initial weights. The states are raw temperatures, so values diverge with PyTorch's
initialization.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.robust_vdn import PAPER, ROBUST
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class RobustQMIXConfig(ValueConfig):
    """Configuration of Robust QMIX."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "qmix", **ROBUST}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **PAPER,
            "optimizer": "adam",
            "lr": 5e-4,
            "grad_clip": 10.0,
            "hypernet_layers": 1,
            "hypernet_gain": 0.1,
        }
    }


class RobustQMIX(ValueAlgorithm):
    """Robust QMIX; see the module's docstring."""

    config_class = RobustQMIXConfig
