"""QTRAN: Son et al., "QTRAN: Learning to Factorize with Transformation for Cooperative
Multi-Agent Reinforcement Learning", ICML 2019; the variant QTRAN-base.

Idea: learn the value of the joint action without any restriction. Two constraints make
sure that the sum of the agents' values has the same best joint action.

Equations: ``Q_jt`` by TD with ``y = r + gamma Q_jt^-(s', u*)``, ``u*`` each agent's
greedy action; with ``D(u) = sum_i Q_i(u_i) - Q_jt(u) + V(s)``, ``Q_jt`` held fixed,

* ``L_opt = D(u*)^2``;
* ``L_nopt = min(D(u), 0)^2`` for the action taken.

Three things are PyMARL's: the weights 1 and 0.1 of the two losses, the small networks,
and ``V``. Here ``V`` reads only the state; in the paper it reads the agents' features.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class QTRANConfig(ValueConfig):
    """Configuration of QTRAN."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "vdn",
        "joint_critic": "qtran",
        "loss": "qtran",
    }


class QTRAN(ValueAlgorithm):
    """QTRAN; see the module's docstring."""

    config_class = QTRANConfig
