"""COMA: Foerster et al., "Counterfactual Multi-Agent Policy Gradients", AAAI 2018.

Idea: a centralised critic gives every agent the value of each of its actions, with the
actions of the others fixed. The advantage of an action is its value minus the expected
value under the agent's own policy.

Equations: ``A_i = Q_i(u_i) - sum_a pi_i(a) Q_i(a)``, with ``Q_i`` of the state and the
others' actions; ``L_actor = -mean A_i log pi_i(u_i)``; the critic learns from
TD(lambda) targets of a target critic.

Hyper-parameters are those of PyMARL. The environment must have a global state.
``docs/algorithms/coma.md`` lists the differences from PyMARL.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.actor_critic.algorithm import ActorCriticAlgorithm
from rllib_risk.algorithms.actor_critic.config import ActorCriticConfig
from rllib_risk.algorithms.actor_critic.policy import ComaPolicy, Rollouts
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.policy import TeamPolicy


class COMAConfig(ActorCriticConfig):
    """Configuration of COMA."""

    overrides: ClassVar[dict[str, Any]] = ActorCriticConfig.overrides | {
        "buffer_size_episodes": 8,
        "learning_starts_episodes": 8,
        "epsilon_anneal_env_steps": 100_000,
        "num_envs_per_env_runner": 8,
    }


class COMA(ActorCriticAlgorithm):
    """COMA; see the module's docstring."""

    config_class: ClassVar[type[TeamConfig]] = COMAConfig
    policy_class: ClassVar[type[TeamPolicy]] = ComaPolicy

    def _rollouts(self) -> Rollouts:
        return Rollouts(self.replay.sample(self.config.batch_size_episodes))
