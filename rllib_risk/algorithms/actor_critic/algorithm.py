"""The training loop of actor-critic algorithms."""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.actor_critic.config import ActorCriticConfig
from rllib_risk.algorithms.actor_critic.policy import ActorCriticPolicy, Rollouts
from rllib_risk.core.algorithm import TeamAlgorithm
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.policy import TeamPolicy

_NUM_CRITIC_STEPS = "num_critic_steps_lifetime"


class ActorCriticAlgorithm(TeamAlgorithm):
    """Fits the critic, then improves the actor; the target critic is a hard copy.

    A subclass defines :meth:`_rollouts`, which chooses the episodes of an update.
    """

    config: ActorCriticConfig
    config_class: ClassVar[type[TeamConfig]] = ActorCriticConfig
    policy_class: ClassVar[type[TeamPolicy]] = ActorCriticPolicy

    def _rollouts(self) -> Rollouts:
        """Returns the episodes of one update."""
        raise NotImplementedError

    def _learn(self) -> tuple[dict[str, float], int]:
        policy: ActorCriticPolicy = self.team_policy
        rollouts = self._rollouts()
        logged = self.before_learning(rollouts)
        stats, critic_steps = policy.learn(rollouts)
        stats |= logged
        self.counters[_NUM_CRITIC_STEPS] += critic_steps
        now = self.counters[_NUM_CRITIC_STEPS]
        interval = self.config.target_update_interval_critic_steps
        if now - self._last.get("target_update", 0) >= interval:
            policy.update_target()
            self._last["target_update"] = now
        episodes = [*rollouts.on_policy, *rollouts.off_policy]
        return stats, sum(len(episode) for episode in episodes)

    def step(self) -> dict[str, Any]:
        """Runs one iteration and its evaluation; see TeamAlgorithm."""
        results = super().step()
        results[_NUM_CRITIC_STEPS] = self.counters[_NUM_CRITIC_STEPS]
        return results
