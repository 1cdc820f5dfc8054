"""Policies of actor-critic teams: a stochastic actor and a centralised critic."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from ray.rllib.policy.sample_batch import SampleBatch
from torch import Tensor, nn

from rllib_risk.algorithms.actor_critic.losses import (
    CriticTargetConfig,
    actor_loss,
    critic_targets,
    taken_values,
    with_last_actions,
)
from rllib_risk.core.policy import TeamPolicy, move_towards
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.networks.critics import (
    CounterfactualCritic,
    DecomposedCritic,
    TeamCritic,
)
from rllib_risk.ops.targets import masked_mean
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.exploration import Explorer, PolicySampler, action_probabilities

# Random stream of the actions after the last step.
_LAST_ACTIONS_STREAM = 0


@dataclass
class Rollouts:
    """The episodes of one update.

    Attributes:
        on_policy: Episodes for the critic, with TD(lambda) targets.
        off_policy: Episodes for the critic, with tree-backup targets.
        latest: Episodes for the actor. None: the episodes of ``on_policy``, with the
            values that the critic computed while it learned.
    """

    on_policy: Sequence[Episode]
    off_policy: Sequence[Episode] = ()
    latest: Sequence[Episode] | None = None


@dataclass
class Sweep:
    """The result of fitting the critic to a batch.

    Attributes:
        values: Values of all actions, ``[B, T, N, A]``. The values of a time index are
            computed just before its gradient step.
        steps: Number of gradient steps.
        stats: Statistics to log.
    """

    values: Tensor
    steps: int
    stats: dict[str, float]


class StochasticPolicy(TeamPolicy):
    """A team that samples its actions from a policy.

    This class implements acting and the actor's optimizer; a subclass implements
    learning.
    """

    stochastic: ClassVar[bool] = True

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """Creates the actor's optimizer; see TorchPolicyV2."""
        parameters = list(self.model.network.parameters())
        return [self.make_optimizer([{"params": parameters, "lr": self.config["lr"]}])]

    def make_explorer(self, num_envs: int) -> Explorer:
        """See TeamPolicy."""
        return PolicySampler(num_envs, self.network.sizes.num_agents)

    def _memoryless_explorer(self, num_envs: int, num_agents: int) -> Explorer:
        return PolicySampler(num_envs, num_agents)

    def probabilities(self, batch: Batch) -> Tensor:
        """Computes the current policy over whole episodes, with gradients.

        Args:
            batch: The batch.

        Returns:
            Probabilities, ``[B, T+1, N, A]``.
        """
        network = self.network
        unroll = network.unroll(network.inputs(batch.obs, batch.actions))
        logits = network.atoms(unroll).squeeze(-1)
        epsilon = self.epsilon_at(self.global_timestep)
        return action_probabilities(logits, batch.action_mask, epsilon)


class ActorCriticPolicy(StochasticPolicy):
    """A policy with a critic and an actor; a subclass makes the critic.

    Attributes:
        critic: The critic; only the learner has it.
        target_critic: The delayed copy of the critic that computes targets.
        sweeps_backwards: Whether the critic begins with the last time index.
    """

    sweeps_backwards: ClassVar[bool]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        config: Mapping[str, Any],
    ) -> None:
        """Initializes the policy; see :class:`TeamPolicy`.

        Args:
            observation_space: The team's observation space.
            action_space: The team's action space.
            config: An
                :class:`~rllib_risk.algorithms.actor_critic.config.ActorCriticConfig`,
                or its dict.
        """
        super().__init__(observation_space, action_space, config)
        self.critic: TeamCritic = self.make_critic().to(self.device)
        self.target_critic: TeamCritic = copy.deepcopy(self.critic)
        self.target_critic.requires_grad_(False)
        # RLlib looks for the parameters of optimizer() in the acting model only, so the
        # critic's optimizer is added here.
        self.optimizers.append(self.make_optimizer(self._critic_groups()))

    def make_critic(self) -> TeamCritic:
        """Builds a critic with new parameters."""
        raise NotImplementedError

    def _critic_groups(self) -> list[dict[str, Any]]:
        c = self.config
        groups = [{"params": self.critic.value_parameters(), "lr": c["critic_lr"]}]
        mixing = self.critic.mixing_parameters()
        if mixing:
            groups.append({"params": mixing, "lr": c["mixer_lr"]})
        return groups

    def modules(self) -> dict[str, nn.Module]:
        """See TeamPolicy."""
        return {
            "actor": self.network,
            "critic": self.critic,
            "target_critic": self.target_critic,
        }

    # Learning

    def target_config(self) -> CriticTargetConfig:
        """Returns the settings of the critic's targets."""
        c = self.config
        return CriticTargetConfig(
            gamma=self.gamma,
            reward_scale=c["reward_scale"],
            td_lambda=c["td_lambda"],
            # COMA has no off-policy episodes, so these two have no effect.
            tree_backup_lambda=0.0,
            tree_backup_steps=1,
        )

    def learn(self, rollouts: Rollouts) -> tuple[dict[str, float], int]:
        """Fits the critic to its batch, then makes one step of the actor.

        Args:
            rollouts: The episodes.

        Returns:
            Statistics to log, and the number of gradient steps of the critic.
        """
        episodes = [*rollouts.on_policy, *rollouts.off_policy]
        batch = self.tensors(collate(episodes))
        sweep = self.fit_critic(batch, len(rollouts.on_policy))
        if rollouts.latest is None:
            values = sweep.values
        else:
            batch = self.tensors(collate(rollouts.latest))
            with torch.no_grad():
                values = self.critic(self._inputs(batch, batch.actions))
        stats = self.fit_actor(batch, values)
        return sweep.stats | stats, sweep.steps

    def _inputs(self, batch: Batch, actions: Tensor) -> Tensor:
        """Returns the critic's inputs at the real steps, ``[B, T, N, I]``."""
        taken = slice(None, -1)
        return self.critic.inputs(batch.obs[:, taken], batch.state[:, taken], actions)

    def critic_targets(self, batch: Batch, on_policy: int) -> Tensor:
        """See :func:`.losses.critic_targets`.

        Args:
            batch: The batch, its on-policy episodes first.
            on_policy: Number of on-policy episodes.

        Returns:
            Targets, ``[B, T, G]``.
        """
        with torch.no_grad():
            probabilities = self.probabilities(batch)
        generator = self.generator(_LAST_ACTIONS_STREAM)
        actions = with_last_actions(batch, probabilities, generator)
        return critic_targets(
            self.target_critic,
            batch,
            actions,
            probabilities,
            self.target_config(),
            on_policy,
        )

    def fit_critic(self, batch: Batch, on_policy: int) -> Sweep:
        """Makes one gradient step of the critic per time index.

        Args:
            batch: The batch, its on-policy episodes first.
            on_policy: Number of on-policy episodes.

        Returns:
            Values, number of steps and statistics.
        """
        targets = self.critic_targets(batch, on_policy)
        inputs = self._inputs(batch, batch.actions)
        steps = inputs.shape[1]
        order = range(steps)[::-1] if self.sweeps_backwards else range(steps)
        real = batch.mask.any(dim=0).flatten().tolist()
        values = inputs.new_zeros(*batch.actions.shape, batch.action_mask.shape[-1])
        mixed = torch.zeros_like(targets)
        optimizer = self.optimizers[1]
        # Values and mixer share one gradient limit, as in the released DOP code.
        parameters = list(self.critic.parameters())
        norms = []
        for t in order:
            if not real[t]:
                continue
            all_values = self.critic(inputs[:, t])  # [B, N, A]
            chosen = taken_values(all_values, batch.actions[:, t])
            team = self.critic.mix(chosen, batch.state[:, t])  # [B, G]
            errors = (team - targets[:, t]).square()
            loss = masked_mean(errors, batch.mask[:, t])
            norms.append(self._step(optimizer, loss, parameters))
            values[:, t], mixed[:, t] = all_values.detach(), team.detach()
        errors = mixed - targets
        stats = {
            "critic_loss": masked_mean(errors.square(), batch.mask).item(),
            "td_error_abs": masked_mean(errors.abs(), batch.mask).item(),
            "q_taken_mean": masked_mean(mixed, batch.mask).item(),
            "target_mean": masked_mean(targets, batch.mask).item(),
            "critic_grad_norm": sum(norms) / len(norms),
        }
        return Sweep(values, len(norms), stats)

    def fit_actor(self, batch: Batch, values: Tensor) -> dict[str, float]:
        """Makes one gradient step of the actor.

        Args:
            batch: The batch.
            values: The critic's values, ``[B, T, N, A]``.

        Returns:
            Statistics to log.
        """
        taken = slice(None, -1)
        probabilities = self.probabilities(batch)[:, taken]
        with torch.no_grad():
            weights = self.critic.weights(batch.state[:, taken])
        loss, stats = actor_loss(probabilities, values, weights, batch)
        parameters = list(self.network.parameters())
        norm = self._step(self.optimizers[0], loss, parameters)
        return {key: v.item() for key, v in stats.items()} | {"actor_grad_norm": norm}

    def loss(self, model: Any, dist_class: Any, train_batch: SampleBatch) -> Tensor:
        """Computes the actor's loss with the current critic; see TorchPolicyV2."""
        batch = self.tensors(train_batch)
        with torch.no_grad():
            values = self.critic(self._inputs(batch, batch.actions))
            weights = self.critic.weights(batch.state[:, :-1])
        probabilities = self.probabilities(batch)[:, :-1]
        return actor_loss(probabilities, values, weights, batch)[0]

    def update_target(self) -> None:
        """Copies the critic to the target critic."""
        move_towards(self.target_critic.parameters(), self.critic.parameters(), 1.0)


class ComaPolicy(ActorCriticPolicy):
    """COMA: a counterfactual critic, fitted from the last time index to the first."""

    sweeps_backwards: ClassVar[bool] = True

    def make_critic(self) -> TeamCritic:
        """See ActorCriticPolicy."""
        return CounterfactualCritic(
            self.network.sizes, self.config["critic_hidden_size"]
        )


class DopPolicy(ActorCriticPolicy):
    """DOP: a critic that is linear in the agents' values, also fitted off-policy."""

    sweeps_backwards: ClassVar[bool] = False

    def make_critic(self) -> TeamCritic:
        """See ActorCriticPolicy."""
        c = self.config
        return DecomposedCritic(
            self.network.sizes, c["critic_hidden_size"], bias=c["dop_bias"]
        )

    def target_config(self) -> CriticTargetConfig:
        """See ActorCriticPolicy."""
        return dataclasses.replace(
            super().target_config(),
            tree_backup_lambda=self.config["tree_backup_lambda"],
            tree_backup_steps=self.config["tree_backup_steps"],
        )
