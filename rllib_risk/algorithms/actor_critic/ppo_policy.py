"""The policy of MAPPO and IPPO: clipped updates of an actor and a state-value critic.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``I`` input size,
``G`` values (1, or ``N``).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.policy.sample_batch import SampleBatch
from torch import Tensor, nn

from rllib_risk.algorithms.actor_critic.losses import taken_values
from rllib_risk.algorithms.actor_critic.policy import StochasticPolicy
from rllib_risk.networks.state_values import (
    StateCritic,
    ValueNormalizer,
    orthogonal_init,
)
from rllib_risk.ops.policy_gradient import (
    clipped_surrogate,
    clipped_value_losses,
    entropies,
    generalized_advantages,
    standardized,
)
from rllib_risk.ops.targets import masked_mean
from rllib_risk.parts.batch import Batch

# Random stream of the order of episodes.
_ORDER_STREAM = 0


@dataclass
class Experience:
    """A batch with the outputs of actor and critic before the update.

    Attributes:
        batch: The batch.
        critic_inputs: Inputs of the critic, ``[B, T+1, G, I]``.
        log_probabilities: Log-probabilities of the actions taken, ``[B, T, N]``.
        values: Outputs of the critic, ``[B, T, G]``.
        advantages: Advantages, normalised if ``normalize_advantages``, ``[B, T, N]``.
        returns: Returns, not normalised, ``[B, T, G]``.
    """

    batch: Batch
    critic_inputs: Tensor
    log_probabilities: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def of(self, rows: Tensor) -> Experience:
        """Selects the experience of some episodes.

        Args:
            rows: Indices of the episodes, int64.
        """
        given = vars(self.batch).items()
        batch = Batch(**{k: v[rows] for k, v in given if v is not None})
        others = [v[rows] for k, v in vars(self).items() if k != "batch"]
        return Experience(batch, *others)


class PPOTeamPolicy(StochasticPolicy):
    """Learns in several epochs over the newest episodes, with clipped losses.

    Attributes:
        critic: The critic; only the learner has it.
        value_norm: Running mean and standard deviation of the returns.
    """

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
            config: A
                :class:`~rllib_risk.algorithms.actor_critic.ppo_config.PPOTeamConfig`,
                or its dict.
        """
        super().__init__(observation_space, action_space, config)
        self.critic = self._make_critic().to(self.device)
        self.value_norm = ValueNormalizer().to(self.device)
        if self.config["orthogonal_init"]:
            self._init_orthogonal()
        # RLlib looks for the parameters of optimizer() in the acting model only, so the
        # critic's optimizer is added here.
        group = {"params": list(self.critic.parameters())}
        self.optimizers.append(
            self.make_optimizer([group | {"lr": self.config["critic_lr"]}])
        )

    def _make_critic(self) -> StateCritic:
        c, network, sizes = self.config, self.network, self.network.sizes
        recurrent = c["critic_recurrent"]
        if recurrent is None:
            recurrent = network.agents[0].encoder.has_memory
        size = {
            "state": sizes.state_size,
            "state_and_agent": sizes.state_size + network.input_size,
            "agent": network.input_size,
        }[c["critic_input"]]
        own = c["critic_input"] != "state" and not c["parameter_sharing"]
        return StateCritic(
            sizes,
            size,
            c["critic_hidden_size"],
            recurrent=recurrent,
            copies=sizes.num_agents if own else 1,
        )

    def _init_orthogonal(self) -> None:
        hidden = nn.init.calculate_gain("relu")
        for agent in self.network.agents:
            orthogonal_init(agent.encoder, hidden)
            weight, bias = agent.head.weight, agent.head.bias
            nn.init.orthogonal_(weight, self.config["policy_gain"])  # type: ignore[arg-type]
            nn.init.zeros_(bias)  # type: ignore[arg-type]
        orthogonal_init(self.critic.bodies, hidden)
        orthogonal_init(self.critic.heads, 1.0)

    def modules(self) -> dict[str, nn.Module]:
        """See TeamPolicy."""
        return {
            "actor": self.network,
            "critic": self.critic,
            "value_norm": self.value_norm,
        }

    # Learning

    def critic_inputs(self, batch: Batch) -> Tensor:
        """Builds the critic's inputs of every row, ``[B, T+1, G, I]``.

        Args:
            batch: The batch.
        """
        kind, states = self.config["critic_input"], batch.state.unsqueeze(2)
        if kind == "state":
            return states
        own = self.network.inputs(batch.obs, batch.actions)  # [B, T+1, N, .]
        if kind == "agent":
            return own
        return torch.cat([states.expand(-1, -1, own.shape[2], -1), own], dim=-1)

    def log_probabilities(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Computes the current policy without the last row, with gradients.

        Args:
            batch: The batch.

        Returns:
            Log-probabilities of the actions taken, ``[B, T, N]``, and the whole policy,
            ``[B, T, N, A]``.
        """
        probabilities = self.probabilities(batch)[:, :-1]
        taken = taken_values(probabilities, batch.actions)
        # Padding is replaced before the logarithm. The mask multiplies its gradient by
        # 0, which gives NaN if the gradient is not finite.
        taken = torch.where(batch.mask > 0, taken, 1.0)
        return taken.clamp_min(torch.finfo(taken.dtype).tiny).log(), probabilities

    @torch.no_grad()
    def experience(self, batch: Batch) -> tuple[Experience, dict[str, float]]:
        """Computes advantages and returns of a batch with the current actor and critic.

        Args:
            batch: The batch.

        Returns:
            The experience, and statistics to log.
        """
        c = self.config
        log_probabilities, _ = self.log_probabilities(batch)
        inputs = self.critic_inputs(batch)
        values = self.critic(inputs)  # [B, T+1, G]
        if c["normalize_values"]:
            in_rewards = self.value_norm.denormalize(values)
        else:
            in_rewards = values
        advantages = generalized_advantages(
            batch.rewards * c["reward_scale"],
            in_rewards,
            batch.terminateds,
            batch.mask,
            gamma=self.gamma,
            gae_lambda=c["td_lambda"],
        )
        returns = advantages + in_rewards[:, :-1]
        stats = {
            "advantage_mean": masked_mean(advantages, batch.mask).item(),
            "value_mean": masked_mean(in_rewards[:, :-1], batch.mask).item(),
            "target_mean": masked_mean(returns, batch.mask).item(),
            "td_error_abs": masked_mean(advantages.abs(), batch.mask).item(),
        }
        if c["normalize_advantages"]:
            advantages = standardized(advantages, batch.mask, mean=self._mean)
        advantages = advantages.expand_as(log_probabilities)
        return (
            Experience(
                batch, inputs, log_probabilities, values[:, :-1], advantages, returns
            ),
            stats,
        )

    def learn_on_batch(self, postprocessed_batch: SampleBatch) -> dict[str, float]:
        """Makes one update: several epochs over episodes of the current policy.

        Args:
            postprocessed_batch: Batch from :func:`rllib_risk.data.episodes.collate`,
                with at least ``minibatches_per_epoch`` episodes.

        Returns:
            Statistics to log; means over the gradient steps.
        """
        c = self.config
        batch = self.tensors(postprocessed_batch)
        experience, logged = self.experience(batch)
        number = len(batch.mask) if self.share is None else self.share.rows.num_rows
        generator = self.generator(_ORDER_STREAM)
        collected: dict[str, list[float]] = defaultdict(list)
        for _ in range(c["epochs_per_update"]):
            order = torch.randperm(number, generator=generator)
            for rows in order.tensor_split(c["minibatches_per_epoch"]):
                for key, value in self._learn_rows(experience, rows).items():
                    collected[key].append(value)
        means = {key: sum(of) / len(of) for key, of in collected.items()}
        mean, deviation = self.value_norm.statistics()
        return logged | means | {"return_norm_mean": mean, "return_norm_std": deviation}

    def _learn_rows(self, experience: Experience, rows: Tensor) -> dict[str, float]:
        """Calls :meth:`learn_minibatch` for this process's part of a minibatch.

        Args:
            experience: Experience of the batch, or of this process's part of it.
            rows: Indices of the minibatch's episodes in the batch.
        """
        share = self.share
        if share is None:
            return self.learn_minibatch(experience.of(rows.to(self.device)))
        own, weight = share.rows.among(rows.numpy())
        part = experience.of(torch.from_numpy(own).to(self.device))
        rows_of_part = dataclasses.replace(share.rows, weight=weight)
        self.share = dataclasses.replace(share, rows=rows_of_part)
        try:
            logged = self.learn_minibatch(part)
        finally:
            self.share = share
        # `merged` later multiplies each learner's numbers by its share of the batch. It
        # takes the norm of a gradient from the first learner.
        scale = weight / share.rows.weight
        return {
            key: number if key.endswith("grad_norm") else number * scale
            for key, number in logged.items()
        }

    def _mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """Computes the mean over real steps of the whole batch, over all learners."""
        mean = masked_mean if self.share is None else self.share.mean
        return mean(values, mask)

    def _step_and_share(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        parameters: Sequence[Tensor],
    ) -> float:
        norm = self._step(optimizer, loss, parameters)
        if self.share is not None:
            self.share.copy(parameters)
        return norm

    def learn_minibatch(self, experience: Experience) -> dict[str, float]:
        """Makes one gradient step of the actor, then one of the critic.

        Args:
            experience: Experience of some episodes of an update.

        Returns:
            Statistics to log.
        """
        loss, stats = self.actor_loss(experience)
        parameters = list(self.network.parameters())
        logged = {
            "actor_grad_norm": self._step_and_share(
                self.optimizers[0], loss, parameters
            ),
        }
        loss = self.critic_loss(experience)
        parameters = list(self.critic.parameters())
        norm = self._step_and_share(self.optimizers[1], loss, parameters)
        logged["critic_grad_norm"] = norm
        logged["critic_loss"] = loss.item()
        return logged | {key: value.item() for key, value in stats.items()}

    def actor_loss(self, experience: Experience) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the clipped surrogate minus the weighted entropy.

        Args:
            experience: Experience of some episodes of an update.

        Returns:
            The loss, a scalar, and statistics to log.
        """
        c, batch = self.config, experience.batch
        taken, probabilities = self.log_probabilities(batch)
        ratios = (taken - experience.log_probabilities).exp()
        surrogate = clipped_surrogate(ratios, experience.advantages, c["clip_param"])
        entropy = masked_mean(entropies(probabilities), batch.mask)
        actor_loss = masked_mean(surrogate, batch.mask)
        with torch.no_grad():
            outside = ((ratios - 1.0).abs() > c["clip_param"]).to(ratios.dtype)
            stats = {
                "actor_loss": actor_loss.detach(),
                "policy_entropy": entropy.detach(),
                "policy_max": masked_mean(probabilities.amax(dim=-1), batch.mask),
                "ratio_mean": masked_mean(ratios, batch.mask),
                "clipped_share": masked_mean(outside, batch.mask),
            }
        return actor_loss - c["entropy_weight"] * entropy, stats

    def critic_loss(self, experience: Experience) -> Tensor:
        """Updates the running mean of the returns, then computes the critic's loss.

        Args:
            experience: Experience of some episodes of an update.

        Returns:
            The loss, a scalar.
        """
        c, mask = self.config, experience.batch.mask
        targets = experience.returns
        if c["normalize_values"]:
            self.value_norm.update(targets, mask, c["value_norm_decay"], self._mean)
            targets = self.value_norm.normalize(targets)
        losses = clipped_value_losses(
            self.critic(experience.critic_inputs)[:, :-1],
            experience.values,
            targets,
            clip=c["clip_param"] if c["clip_values"] else None,
            huber_delta=c["huber_delta"],
        )
        return masked_mean(losses, mask)

    def loss(self, model: Any, dist_class: Any, train_batch: SampleBatch) -> Tensor:
        """Computes the actor's loss before its first step; see TorchPolicyV2."""
        experience, _ = self.experience(self.tensors(train_batch))
        return self.actor_loss(experience)[0]
