"""Robust VDN: Qu et al., "Distributionally Robust Cooperative Multi-Agent Reinforcement
Learning via Robust Value Factorization", ICLR 2026.

Idea: each agent's greedy action is part of a joint action that is best under the worst
transition kernel around the nominal one, if a factorised value is trained on a robust
target. No adversary is played.

Equations: ``Q_tot = sum_i Q_i`` and ``y = r + gamma w``, with ``V'`` the target
network's value at its own greedy actions, and

* contamination: ``w = (1 - rho) V' + rho v_min``;
* total variation: ``w = (1 - rho) eta - (eta - V')+ + rho v_min``, ``eta(s, u)`` the
  ``(1 - rho)``-quantile of ``V'``.

The preset ``paper`` holds the authors' networks, replay and exploration. Elsewhere the
defaults are PyMARL's. What differs from the released code is in
``docs/algorithms/robust_vdn.md`` and ``docs/robust.md``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# What all robust algorithms have in common.
ROBUST: dict[str, Any] = {"target": "tv", "rho": 0.2, "double_q": False}

# The authors' protocol, beside the optimizer, which differs among their algorithms. An
# episode has 287 steps there: 35 episodes are their 10 000 transitions, 87 their 25 000
# steps.
PAPER: dict[str, Any] = {
    "gamma": 0.997,
    "rnn_cell": "lstm",
    "parameter_sharing": False,
    "agent_ids": False,
    "sequence_length": 1,
    "burn_in": 7,
    "acting_window": 8,
    "target_window": "shifted",
    "window_padding": "zeros",
    "batch_size_episodes": 64,
    "buffer_size_episodes": 35,
    "learning_starts_episodes": 1,
    "update_interval_env_steps": 2,
    "target_update_interval_episodes": 87,
    "exploration": "team_epsilon_greedy",
    "initial_epsilon": 1.0,
    "final_epsilon": 0.01,
    "epsilon_anneal_env_steps": 120_000,
}


class RobustVDNConfig(ValueConfig):
    """Configuration of Robust VDN."""

    overrides: ClassVar[dict[str, Any]] = {"mixer": "vdn", **ROBUST}
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {**PAPER, "optimizer": "rmsprop", "lr": 5e-4, "grad_clip": None}
    }


class RobustVDN(ValueAlgorithm):
    """Robust VDN; see the module's docstring."""

    config_class = RobustVDNConfig
