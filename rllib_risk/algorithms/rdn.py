"""RDN, the Risk Decomposition Network: RMIX with a plain sum for a mixer.

Qiu et al., NeurIPS 2021, appendix. Agents, level predictor, CVaR and losses are those
of :mod:`rllib_risk.algorithms.rmix`; ``C_tot = sum_i C_i`` has no parameters and reads
no state. With a static level of 1 and no quantile regression it is VDN with heads that
average ``M`` outputs.

The paper names the set-up of VDN, the released code uses Adam; so does this, and
``optimizer: rmsprop`` makes the comparison with VDN like for like.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.rmix import OFFICIAL, RISK_DEFAULTS
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class RDNConfig(ValueConfig):
    """Configuration of RDN."""

    overrides: ClassVar[dict[str, Any]] = {**RISK_DEFAULTS, "mixer": "vdn"}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "rmix": {},
        "rmix_official": OFFICIAL,
    }


class RDN(ValueAlgorithm):
    """RDN; see the module's docstring."""

    config_class = RDNConfig
