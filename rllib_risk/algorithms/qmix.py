"""QMIX: Rashid et al., "QMIX: Monotonic Value Function Factorisation for Deep
Multi-Agent Reinforcement Learning", ICML 2018.

Idea: the team's value is a monotonic function of the agents' values. A network computes
its weights from the global state. The joint argmax is then each agent's own argmax.

Equations: ``Q_tot = ELU(q W1(s) + b1(s)) w2(s) + v(s)``, ``W1, w2 >= 0``;
``y = r + gamma Q_tot^-(s', {Q_i^-(tau', a*_i)})`` with the online network's ``a*``.

Hyper-parameters are those of PyMARL.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.pymarl_presets import MIXED
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class QMIXConfig(ValueConfig):
    """Configuration of QMIX."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "qmix"}
    presets: ClassVar[dict[str, dict[str, Any]]] = MIXED


class QMIX(ValueAlgorithm):
    """QMIX; see the module's docstring."""

    config_class = QMIXConfig
