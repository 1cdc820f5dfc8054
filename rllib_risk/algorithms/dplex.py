"""DPLEX: Sun, Lee, See and Lee, "A Unified Framework for Factorizing Distributional
Value Functions for Multi-Agent Reinforcement Learning", JMLR 24 (2023).

Idea: mean and shape, as DMIX, with QPLEX in the place of QMIX: any function of the
means whose joint argmax is each agent's own argmax can be written so.

Equations: ``Z(tau) = f(s, u, E theta_1, ..., E theta_N) + sum_i (theta_i(tau) - E
theta_i)`` with QPLEX's ``f``, whose advantages are those of the means; targets and loss
as for :mod:`rllib_risk.algorithms.ddn`.

The authors' ``w_i`` is attention over units; here it is the network of the state that
:mod:`rllib_risk.algorithms.qplex` has. See ``docs/algorithms/dplex.md``.
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
