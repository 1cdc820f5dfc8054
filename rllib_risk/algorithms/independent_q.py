"""Independent Q-learning: Tan, "Multi-Agent Reinforcement Learning: Independent vs.
Cooperative Agents", ICML 1993, with PyMARL's recurrent network (its IQL).

Idea: every agent learns from the team's reward as if it were alone.

Equations: ``y_i = r + gamma Q_i^-(tau_i', a*_i)``; the loss averages over agents.

The class is not named IQL, because in RLlib ``IQL`` is Implicit Q-Learning.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.pymarl_presets import INDEPENDENT
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class IndependentQConfig(ValueConfig):
    """Configuration of IndependentQ."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "none"}
    presets: ClassVar[dict[str, dict[str, Any]]] = INDEPENDENT


class IndependentQ(ValueAlgorithm):
    """IndependentQ; see the module's docstring."""

    config_class = IndependentQConfig
