"""PQN: Gallici et al., "Simplifying Deep Temporal Difference Learning", ICLR 2025. With
mixer vdn it is the PQN-VDN of the released code.

Idea: Q-learning without a replay and without a target network. Layer normalisation
keeps it stable. The team learns from the newest episodes of many environments, in a few
epochs, by lambda-returns.

Equations: ``G_t = r_t + gamma (lambda G_{t+1} + (1 - lambda) max_a Q_tot(s_{t+1}, a))``
without gradient, from the online network; ``L = mean (Q_tot(s_t, u_t) - G_t)^2``.

Lambda, learning rate and epochs are those of the released code for SMAX; the clipping
norm is the paper's. ``docs/algorithms/pqn.md`` lists the differences.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import ValueConfig


class PQNConfig(ValueConfig):
    """Configuration of PQN."""

    overrides: ClassVar[dict[str, Any]] = {
        "mixer": "vdn",
        "layer_norm": True,
        "replay": "latest",
        "target_update_tau": 1.0,
        "double_q": False,
        "td_lambda": 0.85,
        "optimizer": "radam",
        "lr": 2.5e-4,
        "num_envs_per_env_runner": 32,
        "batch_size_episodes": 8,
        "learning_starts_episodes": 8,
        # Four epochs.
        "updates_per_episode": 0.5,
        "final_epsilon": 0.01,
    }


class PQN(ValueAlgorithm):
    """PQN; see the module's docstring."""

    config_class = PQNConfig
