"""Robust VDN: Qu et al., "Distributionally Robust Cooperative Multi-Agent Reinforcement
Learning via Robust Value Factorization", ICLR 2026.

Idea: train a factorised value on a robust target. The agents' greedy actions then form
the best joint action under the worst transition kernel around the nominal one. Training
needs no adversary.

Equations: ``Q_tot = sum_i Q_i`` and ``y = r + gamma w``, with ``V'`` the target
network's value at its own greedy actions, and

* contamination: ``w = (1 - rho) V' + rho v_min``;
* total variation: ``w = (1 - rho) eta - (eta - V')+ + rho v_min``, ``eta(s, u)`` the
  ``(1 - rho)``-quantile of ``V'``.

The preset ``paper`` has the authors' networks, replay and exploration. All other
defaults are PyMARL's. ``docs/algorithms/robust_vdn.md`` and ``docs/robust.md`` list the
differences from the released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig

# Settings that all robust algorithms share.
ROBUST: dict[str, Any] = {"target": "tv", "rho": 0.2, "double_q": False}

# The authors' protocol without the optimizer, which differs between their algorithms.
# Their episodes have 287 steps: 35 episodes are their 10 000 transitions, and 87
# episodes their 25 000 steps.
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
