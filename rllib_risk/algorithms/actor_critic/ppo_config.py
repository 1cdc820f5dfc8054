"""The configuration of MAPPO and IPPO."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from rllib_risk.algorithms.actor_critic.config import (
    ACTOR_CRITIC_FIELDS,
    ActorCriticConfig,
)
from rllib_risk.config.schema import ConfigError, Field
from rllib_risk.core.team_fields import TEAM_FIELDS
from rllib_risk.env_wrappers.team_env import TeamEnv


def _read_as(key: str, doc: str) -> Field:
    """Declares a key of COMA and DOP that has another meaning here."""
    return dataclasses.replace(ACTOR_CRITIC_FIELDS[key], doc=doc)


_NO_REPLAY = "No effect: batch_size_episodes decides when updates are made."

# Keys of MAPPO and IPPO that other algorithms lack, or that have another meaning here.
PPO_FIELDS: dict[str, Field] = {
    "optimizer": ACTOR_CRITIC_FIELDS["optimizer"],
    "critic_lr": ACTOR_CRITIC_FIELDS["critic_lr"],
    "critic_hidden_size": ACTOR_CRITIC_FIELDS["critic_hidden_size"],
    "critic_input": Field(
        "state",
        "Input of the critic: the state (one value of the team); the state and the"
        " agent's own input; or only the agent's own input.",
        str,
        choices=("state", "state_and_agent", "agent"),
        fixed=True,
    ),
    "critic_recurrent": Field(
        None,
        "Whether the critic has a GRU; null: only if the agents have a memory.",
        bool,
        optional=True,
        fixed=True,
    ),
    "td_lambda": _read_as(
        "td_lambda", "Lambda of generalised advantage estimation (GAE)."
    ),
    "clip_param": Field(
        0.2,
        "Largest change of the probability ratio, and of a value with clip_values.",
        float,
        low=0.0,
        low_open=True,
    ),
    "clip_values": Field(
        True, "Whether the critic's loss is clipped by clip_param too.", bool
    ),
    "huber_delta": Field(
        10.0,
        "Error at which the critic's Huber loss becomes linear, in standard deviations"
        " of the returns with normalize_values; null: half the squared error.",
        float,
        low=0.0,
        low_open=True,
        optional=True,
    ),
    "normalize_values": Field(
        True,
        "Whether the critic learns returns that are normalised by their running mean"
        " and standard deviation.",
        bool,
    ),
    "value_norm_decay": Field(
        0.99999,
        "Share of the old running mean that each gradient step keeps.",
        float,
        low=0.0,
        high=0.999999,
    ),
    "normalize_advantages": Field(
        True,
        "Whether the advantages of a batch are shifted and scaled to mean 0 and"
        " standard deviation 1.",
        bool,
    ),
    "entropy_weight": Field(
        0.01, "Weight of the policy's entropy in the actor's loss.", float, low=0.0
    ),
    "epochs_per_update": Field(
        15, "Passes over the episodes of an update.", int, low=1, high=10_000
    ),
    "minibatches_per_epoch": Field(
        1,
        "Parts of an update's episodes; each has its own gradient step.",
        int,
        low=1,
        high=10_000,
    ),
    "orthogonal_init": Field(
        True,
        "Whether weights are initialised orthogonally and biases with 0; false:"
        " PyTorch's initialisation.",
        bool,
    ),
    "policy_gain": Field(
        0.01,
        "Factor on the initial weights of the policy's last layer (orthogonal_init).",
        float,
        low=0.0,
        low_open=True,
    ),
    "batch_size_episodes": _read_as(
        "batch_size_episodes",
        "Episodes per update, all played with the present policy; a multiple of the"
        " episodes of a round.",
    ),
    "buffer_size_episodes": _read_as("buffer_size_episodes", _NO_REPLAY),
    "learning_starts_episodes": _read_as("learning_starts_episodes", _NO_REPLAY),
    "updates_per_episode": _read_as("updates_per_episode", _NO_REPLAY),
    "initial_epsilon": ACTOR_CRITIC_FIELDS["initial_epsilon"],
    "final_epsilon": ACTOR_CRITIC_FIELDS["final_epsilon"],
}
_UNUSED = ("buffer_size_episodes", "learning_starts_episodes", "updates_per_episode")


class PPOTeamConfig(ActorCriticConfig):
    """Shared configuration of MAPPO and IPPO, with the values of Yu et al. (2022)."""

    declared: ClassVar[dict[str, Field]] = TEAM_FIELDS | PPO_FIELDS
    overrides: ClassVar[dict[str, Any]] = {
        "optimizer": "adam",
        "optimizer_eps": 1e-5,
        "td_lambda": 0.95,
        "critic_hidden_size": 64,
        "batch_size_episodes": 8,
        "num_envs_per_env_runner": 8,
        "initial_epsilon": 0.0,
        "final_epsilon": 0.0,
    }

    def _check_combinations(self) -> None:
        if self.update_interval_env_steps is not None:
            raise ConfigError(
                f"update_interval_env_steps: {self._owner()} learns from"
                " batch_size_episodes whole episodes of the present policy. Leave it"
                " out."
            )
        super()._check_combinations()

    def split_refusals(self) -> Iterator[str]:
        """See TeamConfig; advantages and returns are normalised over all learners."""
        yield from ()

    def _check_sampling(self) -> None:
        for key in _UNUSED:
            if getattr(self, key) not in self._usual(key):
                raise ConfigError(
                    f"{key}: {self._owner()} has no replay. It makes one update from"
                    " every batch_size_episodes episodes, with epochs_per_update passes"
                    " over them. Leave it out."
                )
        size = self.batch_size_episodes
        if self.minibatches_per_epoch > size:
            raise ConfigError(
                f"minibatches_per_epoch ({self.minibatches_per_epoch}) must be at most"
                f" batch_size_episodes ({size})."
            )
        if self.in_evaluation:  # evaluation makes no updates
            return
        round_size = self.episodes_of_round
        if size % round_size:
            multiple = -(-size // round_size) * round_size
            raise ConfigError(
                f"batch_size_episodes ({size}) must be a multiple of the {round_size}"
                " episodes of a round (episodes_per_round, or else"
                " num_envs_per_env_runner, times the number of runners). For example,"
                f" set batch_size_episodes: {multiple}."
            )

    @property
    def stored_episodes(self) -> int:
        """See TeamConfig; the replay holds only the episodes of one update.

        If an env runner is lost, a round is smaller. The batch is then complete one
        round later, and is larger.
        """
        return 2 * self.batch_size_episodes

    def check_env(self, env: TeamEnv) -> None:
        """Checks that the critic's inputs exist; see ActorCriticConfig."""
        if self.critic_input != "agent":
            super().check_env(env)
