"""The configuration of actor-critic algorithms; `ppo_config` extends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from rllib_risk.config.options import fields_of
from rllib_risk.config.schema import MAX_RATE, MAX_WIDTH, ConfigError, Field
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.env_wrappers.team_env import TeamEnv
from rllib_risk.parts.targets.base import LambdaOptions


def _read_as(doc: str, field: Field) -> Field:
    """Declares a key of other algorithms that has another meaning here."""
    return dataclasses.replace(field, doc=doc)


ACTOR_CRITIC_FIELDS: dict[str, Field] = TEAM_FIELDS | {
    "optimizer": _read_as(
        "Optimizer of actor and critic; each has its own.", TEAM_FIELDS["optimizer"]
    ),
    "critic_lr": Field(
        5e-4,
        "Learning rate of the critic.",
        float,
        low=0.0,
        low_open=True,
        high=MAX_RATE,
    ),
    "critic_hidden_size": Field(
        128, "Width of the critic's layers.", int, low=1, high=MAX_WIDTH, fixed=True
    ),
    "td_lambda": dataclasses.replace(
        fields_of(LambdaOptions)["td_lambda"],
        doc="Lambda of the on-policy TD(lambda) targets.",
        type=float,
    ),
    "target_update_interval_critic_steps": Field(
        200,
        "Gradient steps of the critic between hard copies to the target network; an"
        " update makes one step for each time index of its longest episode.",
        int,
        low=1,
        unit="critic steps",
    ),
    "batch_size_episodes": _read_as(
        "On-policy episodes per update.", TEAM_FIELDS["batch_size_episodes"]
    ),
    "updates_per_episode": _read_as(
        "Updates (a sweep of the critic and a step of the actor) per sampled episode.",
        TEAM_FIELDS["updates_per_episode"],
    ),
    "initial_epsilon": _read_as(
        "Share of uniformly random actions in the policy, at the start.",
        TEAM_FIELDS["initial_epsilon"],
    ),
    "final_epsilon": _read_as(
        "Share of uniformly random actions in the policy, at the end.",
        TEAM_FIELDS["final_epsilon"],
    ),
}

OFF_POLICY_FIELDS: dict[str, Field] = {
    "mixer_lr": Field(
        1e-4,
        "Learning rate of the critic's mixer.",
        float,
        low=0.0,
        low_open=True,
        high=MAX_RATE,
    ),
    "dop_bias": Field(
        False,
        "Whether the team's value has a term b(s), as in the paper but not in the"
        " released code.",
        bool,
        fixed=True,
    ),
    "on_policy_episodes": Field(
        32,
        "Number of newest episodes from which the critic's on-policy batch is drawn.",
        int,
        low=1,
        unit="episodes",
    ),
    "off_policy_batch_size_episodes": Field(
        32,
        "Off-policy episodes per update of the critic, drawn from the whole replay.",
        int,
        low=1,
        unit="episodes",
    ),
    "tree_backup_lambda": Field(
        0.93, "Lambda of off-policy targets.", float, low=0.0, high=1.0
    ),
    "tree_backup_steps": Field(
        5, "Steps that an off-policy target looks ahead.", int, low=1, unit="steps"
    ),
}


class ActorCriticConfig(TeamConfig):
    """Shared configuration of COMA and DOP."""

    declared: ClassVar[dict[str, Field]] = ACTOR_CRITIC_FIELDS
    overrides: ClassVar[dict[str, Any]] = {
        "td_lambda": 0.8,
        "batch_size_episodes": 8,
        "updates_per_episode": 0.125,
        "initial_epsilon": 0.5,
        "final_epsilon": 0.01,
    }

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if self.overlap_sampling:
            raise ConfigError(
                "overlap_sampling: it plays with weights that are up to two rounds old,"
                f" but {self._owner()} learns from episodes of the present policy;"
                " leave it off."
            )
        if self.update_interval_env_steps is not None:
            raise ConfigError(
                f"update_interval_env_steps: {self._owner()} makes its updates between"
                " rounds; set updates_per_episode instead."
            )
        if "on_policy_episodes" not in self.declared:
            return
        for small, large in (
            ("batch_size_episodes", "on_policy_episodes"),
            ("on_policy_episodes", "buffer_size_episodes"),
            ("off_policy_batch_size_episodes", "learning_starts_episodes"),
        ):
            low, high = getattr(self, small), getattr(self, large)
            if low > high:
                raise ConfigError(f"{small} ({low}) must be at most {large} ({high}).")

    def split_refusals(self) -> Iterator[str]:
        """See TeamConfig."""
        yield (
            f"num_learners: {self._owner()} fits its critic with a gradient step for"
            " each step of an episode. Learners would wait for one another longer than"
            " such a step takes. Set num_learners: 0."
        )

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the environment has a state for the critic.

        Args:
            env: The environment.

        Raises:
            ConfigError: If the environment has no global state.
        """
        if env.spec_team.state_size == 0:
            raise ConfigError(
                f"env: {self.env!r} has no global state, but the critic of"
                f" {self._owner()} needs one. Give the environment a state() method, or"
                " set env_config: {state: concat_obs} to use the agents' observations,"
                " concatenated."
            )
