"""DMIX: Sun, Lee and Lee, "DFAC Framework: Factorizing the Value Function via Quantile
Mixture for Multi-Agent Distributional Q-Learning", ICML 2021.

Idea: split distributions into mean and shape. QMIX mixes the means of the agents'
distributions. The sum of their deviations from the means is the shape of the team's
distribution.

Equations: ``Z(tau) = f(s, E theta_1, ..., E theta_N) + sum_i (theta_i(tau) - E
theta_i)`` with QMIX's ``f``; agents, targets and loss as in
:mod:`rllib_risk.algorithms.ddn`.

The joint argmax of the mean is each agent's own argmax of its mean. This does not hold
for a risk measure: see docs/risk.md.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.ddn import DFAC_DEFAULTS, OFFICIAL
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class DMIXConfig(ValueConfig):
    """Configuration of DMIX."""

    overrides: ClassVar[dict[str, Any]] = {**DFAC_DEFAULTS, "mixer": "qmix"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "dmix": {},
        "dmix_official": OFFICIAL,
    }


class DMIX(ValueAlgorithm):
    """DMIX; see the module's docstring."""

    config_class = DMIXConfig
