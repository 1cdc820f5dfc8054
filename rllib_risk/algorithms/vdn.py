"""VDN: Sunehag et al., "Value-Decomposition Networks For Cooperative Multi-Agent
Learning Based On Team Reward", AAMAS 2018.

Idea: the team's value is the sum of the agents' values; nothing else differs from
independent Q-learning.

Equations: ``Q_tot = sum_i Q_i(tau_i, u_i)``; target as for QMIX.

Hyper-parameters are those of PyMARL. The state is not used.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.pymarl_presets import MIXED
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class VDNConfig(ValueConfig):
    """Configuration of VDN."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "vdn"}
    presets: ClassVar[dict[str, dict[str, Any]]] = MIXED


class VDN(ValueAlgorithm):
    """VDN; see the module's docstring."""

    config_class = VDNConfig
