"""The algorithms by name. They are imported on first access."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm
    from rllib_risk.core.config import TeamConfig

# Name -> module. Each module defines the class <Name> and its configuration
# <Name>Config.
ALGORITHMS: dict[str, str] = {
    "RMIX": "rllib_risk.algorithms.rmix",
    "RDN": "rllib_risk.algorithms.rdn",
    "QMIX": "rllib_risk.algorithms.qmix",
    "VDN": "rllib_risk.algorithms.vdn",
    "QPLEX": "rllib_risk.algorithms.qplex",
    "QTRAN": "rllib_risk.algorithms.qtran",
    "OWQMIX": "rllib_risk.algorithms.ow_qmix",
    "CWQMIX": "rllib_risk.algorithms.cw_qmix",
    "DDN": "rllib_risk.algorithms.ddn",
    "DMIX": "rllib_risk.algorithms.dmix",
    "DPLEX": "rllib_risk.algorithms.dplex",
    "RiskQ": "rllib_risk.algorithms.riskq",
    "LHIQN": "rllib_risk.algorithms.lh_iqn",
    "IndependentQ": "rllib_risk.algorithms.independent_q",
    "PQN": "rllib_risk.algorithms.pqn",
    "RobustVDN": "rllib_risk.algorithms.robust_vdn",
    "RobustQMIX": "rllib_risk.algorithms.robust_qmix",
    "RobustQTRAN": "rllib_risk.algorithms.robust_qtran",
    "MACQR": "rllib_risk.algorithms.ma_cqr",
    "OfflineBaselines": "rllib_risk.algorithms.offline_baselines",
    "GroupDR": "rllib_risk.algorithms.group_dr",
    "COMA": "rllib_risk.algorithms.coma",
    "DOP": "rllib_risk.algorithms.dop",
    "MAPPO": "rllib_risk.algorithms.mappo",
    "IPPO": "rllib_risk.algorithms.ippo",
}


def config_class(name: str) -> type[TeamConfig]:
    """The configuration class of an algorithm.

    Args:
        name: A key of :data:`ALGORITHMS`.

    Returns:
        The class.
    """
    return getattr(importlib.import_module(ALGORITHMS[name]), f"{name}Config")


def algorithm_class(name: str) -> type[TeamAlgorithm]:
    """The class of an algorithm.

    Args:
        name: A key of :data:`ALGORITHMS`.

    Returns:
        The class.
    """
    return getattr(importlib.import_module(ALGORITHMS[name]), name)


def register_algorithms() -> None:
    """Registers all algorithms with Ray Tune; it may be called more than once."""
    from ray.tune import register_trainable

    for name in ALGORITHMS:
        register_trainable(name, algorithm_class(name))


def __getattr__(name: str) -> Any:
    base = name.removesuffix("Config")
    if base in ALGORITHMS:
        return config_class(base) if name.endswith("Config") else algorithm_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
