"""RMIX: Qiu et al., "RMIX: Learning Risk-Sensitive Policies for Cooperative
Reinforcement Learning Agents", NeurIPS 2021.

Idea: every agent learns a return distribution and acts on its CVaR instead of its mean.
A level predictor chooses the risk level per agent and step. A monotonic mixer turns the
CVaR values into the team's value, so that the joint argmax is each agent's own.

Equations (``M`` atoms, ``K`` levels, numbers of the paper):

* Eq. 2, 3: ``C_i(tau, a, alpha)`` = mean of the ``ceil(alpha M)`` lowest atoms.
* Section 4.1: level ``alpha_i = k*/K``, ``k* = argmax softmax(<f(Z_i), f(Z~_i)>)``.
* Eq. 5, 6: ``y = r + gamma C_tot^-(s', {C_i^-(tau', a*_i)})``, squared error.
* Eq. 7, 8: quantile regression with dummy reward ``C_i``.

``docs/algorithms/rmix.md`` lists the differences from the paper and from the released
code, each with the key that restores the other version.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# Settings that RMIX and RDN share.
RISK_DEFAULTS: dict[str, Any] = {
    "num_atoms": 100,
    "risk_measure": "cvar",
    "risk_mode": "dynamic",
    "optimizer": "adam",
    "qr_gate": "winrate",
}

# Settings of the released repository, for comparison.
OFFICIAL: dict[str, Any] = {
    "cvar_norm": "code_offby1",
    "cvar_mode": "ceil_float32",
    "risk_grad": "frozen",
    "qr_loss": "rmix_released",
    "qr_gate": "step",
    "qr_interval": 1000,
    "qr_interval_unit": "env_steps",
    "qr_replaces_td": True,
    "qr_lr": 5e-5,
    "mixing_embed_dim": 48,
}

# Fits the atoms to distributions of the team's returns; the risk level is `alpha`.
TEAM_RETURNS: dict[str, Any] = {
    "loss": "quantile",
    "sort_atoms": True,
    "qr_gate": "never",
    "risk_mode": "static",
}


class RMIXConfig(ValueConfig):
    """Configuration of RMIX.

    ``preset: rmix`` (the default) is the paper with its errors corrected. ``preset:
    rmix_official`` is the released code. ``preset: rmix_returns`` fits the atoms to the
    team's returns instead.
    """

    overrides: ClassVar[dict[str, Any]] = {**RISK_DEFAULTS, "mixer": "qmix"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "rmix": {},
        "rmix_official": OFFICIAL,
        "rmix_returns": TEAM_RETURNS,
    }


class RMIX(ValueAlgorithm):
    """RMIX; see the module's docstring."""

    config_class = RMIXConfig
