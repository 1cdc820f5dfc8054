"""OW-QMIX: Rashid et al., "Weighted QMIX: Expanding Monotonic Value Function
Factorisation for Deep Multi-Agent Reinforcement Learning", NeurIPS 2020; optimistic
weighting.

Idea: QMIX cannot fit every payoff, so it should fit the important joint actions best. A
value below its target may belong to the best joint action and has full weight. A value
above its target has less weight. Targets come from an unrestricted value.

Equations: ``y = r + gamma Qhat*^-(s', u*)`` with QMIX's greedy ``u*``; ``L = w
(Q_tot - y)^2 + (Qhat* - y)^2``, ``w = 1`` where ``Q_tot < y``, else ``alpha``.

``alpha`` (``td_weighting_alpha``) is 0.1, the value in the released configuration.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class OWQMIXConfig(ValueConfig):
    """Configuration of OWQMIX."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "qmix",
        "joint_critic": "wqmix",
        "td_weighting": "ow",
    }


class OWQMIX(ValueAlgorithm):
    """OWQMIX; see the module's docstring."""

    config_class = OWQMIXConfig
