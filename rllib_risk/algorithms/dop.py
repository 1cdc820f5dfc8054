"""DOP: Wang et al., "DOP: Off-Policy Multi-Agent Decomposed Policy Gradients", ICLR
2021; the version with stochastic policies.

Idea: the critic is linear in the agents' values. So each agent's policy gradient needs
only its own value, and the expectation in an off-policy target can be computed instead
of sampled.

Equations: ``Q_tot = sum_i k_i(s) Q_i``; on-policy targets are TD(lambda), off-policy
ones tree backups of five steps; ``L_actor = -mean k_i A_i log pi_i(u_i)`` with
``A_i = Q_i(u_i) - sum_a pi_i(a) Q_i(a)``.

Hyper-parameters are those of the released code. The environment must have a global
state. ``docs/algorithms/dop.md`` lists the differences.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.actor_critic.algorithm import ActorCriticAlgorithm
from rllib_risk.algorithms.actor_critic.config import (
    ACTOR_CRITIC_FIELDS,
    OFF_POLICY_FIELDS,
    ActorCriticConfig,
)
from rllib_risk.algorithms.actor_critic.policy import DopPolicy, Rollouts
from rllib_risk.config.schema import Field
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.policy import TeamPolicy


class DOPConfig(ActorCriticConfig):
    """Configuration of DOP."""

    declared: ClassVar[dict[str, Field]] = ACTOR_CRITIC_FIELDS | OFF_POLICY_FIELDS
    overrides: ClassVar[dict[str, Any]] = ActorCriticConfig.overrides | {
        "critic_lr": 1e-4,
        "critic_hidden_size": 256,
        "target_update_interval_critic_steps": 600,
        "batch_size_episodes": 16,
        "updates_per_episode": 0.25,
        "final_epsilon": 0.05,
        "epsilon_anneal_env_steps": 500_000,
        "num_envs_per_env_runner": 4,
        "grad_clip": 20.0,
    }


class DOP(ActorCriticAlgorithm):
    """DOP; see the module's docstring."""

    config: DOPConfig
    config_class: ClassVar[type[TeamConfig]] = DOPConfig
    policy_class: ClassVar[type[TeamPolicy]] = DopPolicy

    def _rollouts(self) -> Rollouts:
        c = self.config
        return Rollouts(
            on_policy=self.replay.sample(c.batch_size_episodes, c.on_policy_episodes),
            off_policy=self.replay.sample(c.off_policy_batch_size_episodes),
            latest=self.replay.newest(c.batch_size_episodes),
        )
