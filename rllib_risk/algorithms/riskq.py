"""RiskQ: Shen, Ma, Li, Liu, Fu, Mei, Liu and Wang, "RiskQ: Risk-Sensitive Multi-Agent
Reinforcement Learning Value Factorization", NeurIPS 2023.

Idea: the team's quantile function is a sum of the agents' with weights of the state.
Distortions of probability (CVaR, VaR, Wang) add up over such sums, so each agent's own
best action for the risk measure is the team's.

Equations: ``Z(tau) = sum_i k_i(s) theta_i(tau) + c(s)``, ``k_i`` from attention; target
atoms ``T_j = r + gamma (1 - terminated) Z^-(s', a*; tau_j)``, and TD(lambda) of it
quantile by quantile; ``a*_i`` the best of the risk measure in the online network;
quantile-Huber loss. Atoms are sorted per agent before they are mixed.

``risk_parameter: -0.75`` is the authors' Wang 0.75, in the sign of this package.
``preset: riskq_official`` brings back their loss, whose fraction belongs to the target
atom, so that all atoms collapse to one point. The differences are listed in
``docs/algorithms/riskq.md``.
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
