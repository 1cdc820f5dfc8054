"""DDN: Sun, Lee and Lee, "DFAC Framework: Factorizing the Value Function via Quantile
Mixture for Multi-Agent Distributional Q-Learning", ICML 2021.

Idea: VDN for distributions. Agents have quantile functions, at fractions that all
agents of a step share, and the team's quantile function is their sum.

Equations: ``Z(tau) = sum_i theta_i(tau)``; quantile-Huber loss against ``T_j = r +
gamma (1 - terminated) Z^-(s', a*; tau'_j)``, ``a*_i`` the highest mean (or the highest
value of ``risk_measure``) of the target network.

Agents are IQN's without the hidden layer after the embedding, as in the authors' code.
Here the atoms are sorted per agent before they are added, so that every distortion of
probability keeps the agents' own best actions (docs/risk.md); ``preset: ddn_official``
is the released code. Every difference is listed in ``docs/algorithms/ddn.md``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# What DDN, DMIX and DPLEX share.
DFAC_DEFAULTS: dict[str, Any] = {
    "num_atoms": 8,
    "quantiles": "sampled",
    "shared_fractions": True,
    "quantile_hidden_layer": False,
    "sort_atoms": True,
    "loss": "quantile",
    "double_q": False,
    "optimizer": "adam",
}

# The released repository's choices, where they are not the defaults.
OFFICIAL: dict[str, Any] = {
    "acting_atoms": 32,
    "sort_atoms": False,
    "optimizer_eps": 1e-5,
}


class DDNConfig(ValueConfig):
    """Configuration of DDN."""

    overrides: ClassVar[dict[str, Any]] = {**DFAC_DEFAULTS, "mixer": "vdn"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "ddn": {},
        # A single quantile, drawn in every update.
        "ddn_official": {**OFFICIAL, "num_atoms": 1},
    }


class DDN(ValueAlgorithm):
    """DDN; see the module's docstring."""

    config_class = DDNConfig
