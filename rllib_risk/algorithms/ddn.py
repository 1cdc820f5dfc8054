"""DDN: Sun, Lee and Lee, "DFAC Framework: Factorizing the Value Function via Quantile
Mixture for Multi-Agent Distributional Q-Learning", ICML 2021.

Idea: VDN for distributions. The team's quantile function is the sum of the agents'
quantile functions. All agents of a step share the quantile fractions.

Equations: ``Z(tau) = sum_i theta_i(tau)``; quantile-Huber loss against ``T_j = r +
gamma (1 - terminated) Z^-(s', a*; tau'_j)``, where ``a*_i`` has the highest mean (or
the highest value of ``risk_measure``) in the target network.

The agents are IQN's without the hidden layer after the embedding, as in the authors'
code. Here the atoms are sorted per agent before they are added. So the agents' own best
actions form the best joint action for every distortion of probability (docs/risk.md).
``preset: ddn_official`` is the released code. ``docs/algorithms/ddn.md`` lists every
difference.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# Settings that DDN, DMIX and DPLEX share.
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

# Settings of the released repository that differ from the defaults.
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
        # One quantile, drawn in every update.
        "ddn_official": {**OFFICIAL, "num_atoms": 1},
    }


class DDN(ValueAlgorithm):
    """DDN; see the module's docstring."""

    config_class = DDNConfig
