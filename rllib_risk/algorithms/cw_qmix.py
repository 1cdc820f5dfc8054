"""CW-QMIX: Rashid et al., "Weighted QMIX: Expanding Monotonic Value Function
Factorisation for Deep Multi-Agent Reinforcement Learning", NeurIPS 2020; central
weighting.

Idea: as OW-QMIX (:mod:`rllib_risk.algorithms.ow_qmix`), with other weights. The greedy
joint action has full weight. So does every joint action whose target is above the
central value of the greedy joint action.

Equations: targets and losses as in OW-QMIX; ``w = 1`` where ``u = u*`` or ``y >
Qhat*^-(s, u*)``, else ``alpha``.

``alpha`` (``td_weighting_alpha``) is 0.1, the value in the released configuration.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class CWQMIXConfig(ValueConfig):
    """Configuration of CWQMIX."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "qmix",
        "joint_critic": "wqmix",
        "td_weighting": "cw",
    }


class CWQMIX(ValueAlgorithm):
    """CWQMIX; see the module's docstring."""

    config_class = CWQMIXConfig
