"""LH-IQN: Lyu and Amato, "Likelihood Quantile Networks for Coordinating Multi-Agent
Reinforcement Learning", AAMAS 2020.

Idea: independent agents learn return distributions. A target below the expectation may
be due to a team-mate's exploration and has less weight (hysteresis). The weight is at
least the likelihood of the target under the agent's own distribution, so that real risk
is learned.

Equations: ``T_j = r + gamma Z^-(tau', a*; tau'_j)``; quantile-Huber loss of ``Z(tau,
u; tau_i)`` at sampled fractions, times ``w``: 1 where ``mean T >= mean Z``, else
``max(beta, l)``, ``l`` the share of predicted probability within ``1 / (2 M)`` of
the targets.

As in the first author's code, ``beta`` (``td_weighting_alpha``) rises from 0.2 to 0.4
over 200 000 env steps, and there are 16 fractions. Network body, replay and exploration
are those of the other baselines. Three errors of that code are not repeated: see
``docs/algorithms/lh_iqn.md``. Acting uses the 16 midpoints instead of random fractions,
so that the greedy policy is deterministic. ``risk_measure`` distorts the fractions from
which actions are chosen.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class LHIQNConfig(ValueConfig):
    """Configuration of LHIQN."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "none",
        "num_atoms": 16,
        "quantiles": "sampled",
        "loss": "quantile",
        "td_weighting": "likelihood",
        "td_weighting_alpha": [[0, 0.2], [200_000, 0.4]],
        "optimizer": "adam",
    }


class LHIQN(ValueAlgorithm):
    """LHIQN; see the module's docstring."""

    config_class = LHIQNConfig
