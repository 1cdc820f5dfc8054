"""RDN, the Risk Decomposition Network: RMIX with a plain sum as its mixer.

Qiu et al., NeurIPS 2021, appendix. Agents, level predictor, CVaR and losses are those
of :mod:`rllib_risk.algorithms.rmix`. ``C_tot = sum_i C_i`` has no parameters and does
not read the state. With a static risk level of 1 and no quantile regression, RDN is VDN
with heads that average ``M`` outputs.

The paper names the set-up of VDN, but the released code uses Adam, as does this class.
For a comparison with VDN under the same optimizer, set ``optimizer: rmsprop``.
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
