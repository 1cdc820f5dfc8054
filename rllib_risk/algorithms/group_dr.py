"""GroupDR: the baseline of Qu et al., "Distributionally Robust Cooperative Multi-Agent
Reinforcement Learning via Robust Value Factorization", ICLR 2026, after Liu et al.
(2025).

Idea: environments come in groups (``env_variants``). The worst group is not looked for
in the transitions, but in the reward alone: a network predicts what every group would
pay for a step, and the team is trained on the least of these.

Three phases:

1. behaviour: a team is trained on the real rewards of all groups (domain
   randomisation);
2. estimator: it plays with one coin of ``behaviour_epsilon`` for the whole team, and
   ``f(s, u, t)``, with one output per group, is fitted to the rewards: ``L = (f_g(s, u,
   t) - r)^2`` for an episode of group ``g``;
3. training: everything but ``f`` starts again, on transitions of all groups, with ``r =
   min_g f_g(s, u, t)``.

One clock and one list of groups serve all phases, which is not so in the released code:
see ``docs/algorithms/group_dr.md``. The preset ``paper`` holds its protocol.
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
from rllib_risk.config.schema import MOST_RATE, ConfigError, Field
from rllib_risk.core.algorithm import NUM_EPISODES
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.model import team_sizes
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.value_algorithm import ValueAlgorithm
from rllib_risk.core.value_config import VALUE_FIELDS, ValueConfig
from rllib_risk.data.episodes import VARIANTS
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.ops.schedule import schedule_value

GROUP_DR_FIELDS: dict[str, Field] = {
    "behaviour_env_steps": Field(
        100_000,
        "Length of the first phase, which trains the team that plays in the second.",
        int,
        low=1,
        unit="env steps",
    ),
    "behaviour_epsilon": Field(
        0.5,
        "Epsilon of the second phase, one coin for the whole team.",
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
        "Steps of the reward estimator in the place of one update of the values.",
        int,
        low=1,
        unit="updates",
    ),
    "estimator_batch_size_steps": Field(
        256, "Env steps that each of them learns from.", int, low=1, unit="env steps"
    ),
    "estimator_lr": Field(
        5e-4,
        "Learning rate of the reward estimator (Adam).",
        float,
        low=0.0,
        low_open=True,
        high=MOST_RATE,
    ),
}


class GroupDRConfig(ValueConfig):
    """Configuration of GroupDR."""

    declared: ClassVar[dict[str, Field]] = VALUE_FIELDS | GROUP_DR_FIELDS
    overrides: ClassVar[dict[str, Any]] = {"mixer": "vdn"}
    # An episode has 287 steps there: the second phase has 1000 of them.
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
                "env_variants: GroupDR takes the worst of several groups; list at least"
                " two, such as [{city: tucson}, {city: tampa}]."
            )
        if self.objective not in ("composed", "mean"):
            raise ConfigError(
                f"objective: {self.objective!r} needs the rewards that were earned, and"
                " GroupDR learns from the mean rewards that it predicts; set objective:"
                " mean."
            )
        if self.qr_gate != "never":
            raise ConfigError(
                "qr_gate: its clock does not start again with GroupDR's last phase; set"
                " qr_gate: never."
            )

    def check_env(self, env: TeamEnv) -> None:
        """See ValueConfig; the reward estimator reads the state."""
        super().check_env(env)
        sizes = team_sizes(env.observation_space, env.action_space)
        if sizes.state_size == 0:
            raise ConfigError(
                f"run: GroupDR's reward estimator needs a global state, and env"
                f" {self.env!r} has none. Give the environment a state() method, or set"
                " env_config: {state: concat_obs} to use the agents' observations side"
                " by side."
            )


class GroupDR(ValueAlgorithm):
    """GroupDR; see the module's docstring."""

    config: GroupDRConfig
    config_class: ClassVar[type[TeamConfig]] = GroupDRConfig
    policy_class: ClassVar[type[TeamPolicy]] = GroupDRPolicy

    @property
    def phase(self) -> str:
        """The phase that the learner is in; it changes where a round begins."""
        begun = [phase for phase in (ESTIMATOR, TRAINING) if phase in self._last]
        return begun[-1] if begun else BEHAVIOUR

    def training_step(self) -> dict[str, Any]:
        """One round; see TeamAlgorithm."""
        # The policy's clock may pass the end of a phase within a round, whose updates
        # still belong to the phase in which it was played.
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
                " was over before the reward estimator's first update. Raise it, or"
                " lower learning_starts_episodes"
                f" ({self.config.learning_starts_episodes}) or the number of episodes"
                " in a round (num_envs_per_env_runner, episodes_per_round)."
            )
        else:
            policy.start_afresh()
            self._last["target_update"] = self.counters[NUM_EPISODES]
        self._last[policy.phase] = self.env_steps
        self.replay.clear()
        self._updates_owed = 0.0
        # What the estimator reached stays in sight.
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
            steps = self.replay.sample_stretches(size, length=1, burn_in=0)
            groups = steps[VARIANTS].tolist()
            stats |= policy.learn_rewards_on_batch(steps, groups)
        return stats, updates * size

    def step(self) -> dict[str, Any]:
        """One iteration and its evaluation; see TeamAlgorithm."""
        results = super().step()
        results["phase"] = self.phase
        now = self.team_policy.global_timestep
        results["td_lambda"] = schedule_value(self.config.td_lambda, now)
        return results
