"""Offline baselines: reference algorithms for offline learning of teams.

Idea: five common baselines that learn from a log. Each is a composition of parts. All
share one set of network, optimizer and batch keys.

==================  ============================  =====================================
preset              source                        parts
==================  ============================  =====================================
``qmix_cql``        Formanek et al., 2024         ``mixer: qmix, penalty:
                                                  sampled_joint``
``iql_cql``         the same                      ``mixer: none, penalty: per_agent``
``maicq``           Yang et al., NeurIPS 2021     ``loss: icq, joint_critic: icq``
``cfcql``           Shao et al., NeurIPS 2023     ``mixer: qmix, penalty:
                                                  counterfactual``
``bc``, ``bc_top``  cloning of all episodes, or   ``loss: bc, dataset_top_share``
                    of the tenth of highest
                    return
==================  ============================  =====================================

Equations: see ``docs/algorithms/offline_baselines.md``, which also lists every
difference from the papers and their released code. ``qmix_cql`` is the default.
Network, optimizer and batches are those of OG-MARL (Formanek et al.), whose code
contains the first three.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

_QMIX_CQL: dict[str, Any] = {
    "mixer": "qmix",
    "loss": "td",
    "penalty": "sampled_joint",
    "conservative_weight": 3.0,
}
_CLONING: dict[str, Any] = {
    "mixer": "none",
    "loss": "bc",
    "penalty": "per_agent",
    "conservative_weight": None,
}


class OfflineBaselinesConfig(ValueConfig):
    """Configuration of OfflineBaselines."""

    overrides: ClassVar[dict[str, Any]] = {
        "optimizer": "adam",
        "lr": 3e-4,
        "obs_last_action": False,
        "sequence_length": 20,
        "target_update_tau": 5e-3,
        **_QMIX_CQL,
    }
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "qmix_cql": _QMIX_CQL,
        "iql_cql": _QMIX_CQL | {"mixer": "none", "penalty": "per_agent"},
        "maicq": _CLONING | {"loss": "icq", "joint_critic": "icq", "td_lambda": 0.75},
        "cfcql": _QMIX_CQL | {"penalty": "counterfactual", "conservative_weight": 5.0},
        "bc": _CLONING,
        "bc_top": _CLONING | {"dataset_top_share": 0.1},
    }


class OfflineBaselines(ValueAlgorithm):
    """OfflineBaselines; see the module's docstring."""

    config_class = OfflineBaselinesConfig
