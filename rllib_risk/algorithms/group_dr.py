"""GroupDR: the baseline of Qu et al., "Distributionally Robust Cooperative Multi-Agent
Reinforcement Learning via Robust Value Factorization", ICLR 2026, after Liu et al.
(2025).

Idea: environments form groups (``env_variants``). The worst group is chosen by the
reward, not by the transitions. A network predicts the reward of a step in every group,
and the team learns from the smallest prediction.

Three phases:

1. behaviour: a team is trained on the real rewards of all groups (domain
   randomisation);
2. estimator: this team plays; with probability ``behaviour_epsilon`` per step, the
   whole team takes random actions. ``f(s, u, t)``, with one output per group, is fitted
   to the rewards: ``L = (f_g(s, u, t) - r)^2`` for an episode of group ``g``;
3. training: everything except ``f`` starts from scratch, on transitions of all groups,
   with ``r = min_g f_g(s, u, t)``.

All phases share one count of env steps and one list of groups. In the released code
they do not: see ``docs/algorithms/group_dr.md``. The preset ``paper`` has the protocol
of the released code.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rllib_risk.algorithms.group_dr_learning import (
    BEHAVIOUR,
    ESTIMATOR,
    TRAINING,
    GroupDRPolicy,
)
from rllib_risk.algorithms.robust_vdn import PAPER
from rllib_risk.config.schema import MAX_RATE, ConfigError, Field
from rllib_risk.core.algorithm import NUM_EPISODES
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.model import team_sizes
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import VALUE_FIELDS, ValueConfig
from rllib_risk.data.episodes import VARIANTS
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.objectives.base import Composed, Mean

GROUP_DR_FIELDS: dict[str, Field] = {
    "behaviour_env_steps": Field(
        100_000,
        "Length of the first phase, which trains the behaviour policy of the second.",
        int,
        low=1,
        unit="env steps",
    ),
    "behaviour_epsilon": Field(
        0.5,
        "Probability per step of the second phase that the whole team explores.",
        float,
        low=0.0,
        high=1.0,
    ),
    "estimator_env_steps": Field(
        100_000,
        "Length of the second phase, which fits the reward estimator.",
        int,
        low=1,
        unit="env steps",
    ),
    "estimator_updates": Field(
        8,
        "Gradient steps of the reward estimator per update in the second phase.",
        int,
        low=1,
        unit="updates",
    ),
    "estimator_batch_size_steps": Field(
        256,
        "Env steps in the batch of one gradient step of the reward estimator.",
        int,
        low=1,
        unit="env steps",
    ),
    "estimator_lr": Field(
        5e-4,
        "Learning rate of the reward estimator (Adam).",
        float,
        low=0.0,
        low_open=True,
        high=MAX_RATE,
    ),
}


class GroupDRConfig(ValueConfig):
    """Configuration of GroupDR."""

    declared: ClassVar[dict[str, Field]] = VALUE_FIELDS | GROUP_DR_FIELDS
    overrides: ClassVar[dict[str, Any]] = {"mixer": "vdn"}
    # The authors' episodes have 287 steps, so the second phase has 1000 episodes.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            **PAPER,
            "double_q": False,
            "optimizer": "rmsprop",
            "lr": 5e-4,
            "behaviour_env_steps": 172_200,
            "estimator_env_steps": 287_000,
            "estimator_updates": 1,
            "estimator_batch_size_steps": 64,
        }
    }

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if len(self.env_variants) < 2:
            raise ConfigError(
                "env_variants: GroupDR needs several groups to choose the worst one."
                " List at least two, such as [{city: tucson}, {city: tampa}]."
            )
        if not issubclass(self.composition.part("objective", self), (Composed, Mean)):
            raise ConfigError(
                f"objective: {self.objective!r} needs the real rewards, but GroupDR"
                " learns from predicted mean rewards. Set objective: mean."
            )
        if self.composition.part("qr_gate", self).regresses:
            raise ConfigError(
                f"qr_gate: {self.qr_gate!r} does not start again in GroupDR's last"
                " phase. Set qr_gate: never."
            )

    def check_env(self, env: TeamEnv) -> None:
        """See ValueConfig; the reward estimator reads the state."""
        super().check_env(env)
        sizes = team_sizes(env.observation_space, env.action_space)
        if sizes.state_size == 0:
            raise ConfigError(
                f"run: GroupDR's reward estimator needs a global state, and env"
                f" {self.env!r} has none. Give the environment a state() method, or set"
                " env_config: {state: concat_obs} to use the agents' observations,"
                " concatenated."
            )


class GroupDR(ValueAlgorithm):
    """GroupDR; see the module's docstring."""

    config: GroupDRConfig
    config_class: ClassVar[type[TeamConfig]] = GroupDRConfig
    policy_class: ClassVar[type[TeamPolicy]] = GroupDRPolicy

    @property
    def phase(self) -> str:
        """The learner's phase; it changes only at the beginning of a round."""
        begun = [phase for phase in (ESTIMATOR, TRAINING) if phase in self._last]
        return begun[-1] if begun else BEHAVIOUR

    def training_step(self) -> dict[str, Any]:
        """Runs one round; see TeamAlgorithm."""
        # The policy's count of env steps may pass the end of a phase within a round.
        # The updates of that round still belong to the phase in which it was played.
        policy: GroupDRPolicy = self.team_policy
        if policy.phase != self.phase:
            self._begin(policy)
        return super().training_step()

    def _begin(self, policy: GroupDRPolicy) -> None:
        if policy.phase == ESTIMATOR:
            played = self.replay.newest(len(self.replay))
            policy.estimator.set_time_scale(max(len(episode) for episode in played))
        elif not policy.estimator_has_learned:
            raise ConfigError(
                f"estimator_env_steps ({self.config.estimator_env_steps}): the phase"
                " ended before the first update of the reward estimator. Raise it, or"
                " lower learning_starts_episodes"
                f" ({self.config.learning_starts_episodes}) or the number of episodes"
                " in a round (num_envs_per_env_runner, episodes_per_round)."
            )
        else:
            policy.reinitialize()
            self._last["target_update"] = self.counters[NUM_EPISODES]
        self._last[policy.phase] = self.env_steps
        self.replay.clear()
        self._updates_owed = 0.0
        # Results still show the estimator's last statistics.
        self._learner_stats = {
            key: value
            for key, value in self._learner_stats.items()
            if key.startswith("estimator")
        }

    def _learn(self) -> tuple[dict[str, float], int]:
        if self.phase != ESTIMATOR:
            return super()._learn()
        policy: GroupDRPolicy = self.team_policy
        stats: dict[str, float] = {}
        updates, size = (
            self.config.estimator_updates,
            self.config.estimator_batch_size_steps,
        )
        for _ in range(updates):
            steps = self.replay.sample_sequences(size, length=1, burn_in=0)
            groups = steps[VARIANTS].tolist()
            stats |= policy.learn_rewards_on_batch(steps, groups)
        return stats, updates * size

    def step(self) -> dict[str, Any]:
        """Runs one iteration and its evaluation; see TeamAlgorithm."""
        results = super().step()
        results["phase"] = self.phase
        now = self.team_policy.global_timestep
        results["td_lambda"] = schedule_value(self.config.td_lambda, now)
        return results
