"""RiskQ: Shen, Ma, Li, Liu, Fu, Mei, Liu and Wang, "RiskQ: Risk-Sensitive Multi-Agent
Reinforcement Learning Value Factorization", NeurIPS 2023.

Idea: the team's quantile function is a weighted sum of the agents' quantile functions;
the weights depend on the state. Distortion risk measures (CVaR, VaR, Wang) are additive
over such sums, so the agents' own best actions form the team's best joint action.

Equations: ``Z(tau) = sum_i k_i(s) theta_i(tau) + c(s)``, ``k_i`` from attention; target
atoms ``T_j = r + gamma (1 - terminated) Z^-(s', a*; tau_j)``, with TD(lambda) for each
quantile; ``a*_i`` has the best risk measure in the online network; quantile-Huber loss.
Atoms are sorted per agent before they are mixed.

``risk_parameter: -0.75`` is the authors' Wang 0.75; this package uses the opposite
sign. ``preset: riskq_official`` has the authors' loss. It uses the fraction of the
target atom, so all atoms collapse to one point. ``docs/algorithms/riskq.md`` lists the
differences.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class RiskQConfig(ValueConfig):
    """Configuration of RiskQ."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "riskq",
        "num_atoms": 32,
        "sort_atoms": True,
        "risk_measure": "wang",
        "risk_parameter": -0.75,
        "loss": "quantile",
        "td_lambda": 0.6,
        "lr": 1e-3,
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "riskq": {},
        "riskq_official": {
            "qr_loss": "riskq_released",
            "epsilon_anneal_env_steps": 100_000,
        },
    }


class RiskQ(ValueAlgorithm):
    """RiskQ; see the module's docstring."""

    config_class = RiskQConfig
