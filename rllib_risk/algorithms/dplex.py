"""DPLEX: Sun, Lee, See and Lee, "A Unified Framework for Factorizing Distributional
Value Functions for Multi-Agent Reinforcement Learning", JMLR 24 (2023).

Idea: split distributions into mean and shape, as in DMIX, but mix the means with QPLEX
instead of QMIX. QPLEX can represent any function of the means whose joint argmax is
each agent's own argmax.

Equations: ``Z(tau) = f(s, u, E theta_1, ..., E theta_N) + sum_i (theta_i(tau) - E
theta_i)`` with QPLEX's ``f``, whose advantages are those of the means; targets and loss
as in :mod:`rllib_risk.algorithms.ddn`.

The authors compute ``w_i`` by attention over units. Here a network computes it from the
state, as in :mod:`rllib_risk.algorithms.qplex`. See ``docs/algorithms/dplex.md``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.ddn import DFAC_DEFAULTS, OFFICIAL
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class DPLEXConfig(ValueConfig):
    """Configuration of DPLEX."""

    overrides: ClassVar[dict[str, Any]] = {**DFAC_DEFAULTS, "mixer": "qplex"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "dplex": {},
        "dplex_official": OFFICIAL,
    }


class DPLEX(ValueAlgorithm):
    """DPLEX; see the module's docstring."""

    config_class = DPLEXConfig
