"""The policy of GroupDR, with a reward estimator and three phases.

Letters: ``B`` episodes or sequences, ``T`` steps, ``G`` groups.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.policy.sample_batch import SampleBatch
from torch import Tensor, nn

from rllib_risk.core.model import team_sizes
from rllib_risk.core.value_policy import ValuePolicy
from rllib_risk.networks.reward_model import RewardModel
from rllib_risk.ops.targets import masked_mean
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.exploration import Explorer, TeamEpsilonGreedy
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View

BEHAVIOUR, ESTIMATOR, TRAINING = "behaviour", "estimator", "training"

# Separates the seed of the last phase's networks from other uses of the run's seed.
_RESTART_STREAM = 3
# Index of the estimator's optimizer.
_ESTIMATOR = 1


class GroupDRPolicy(ValuePolicy):
    """A value policy that learns from the worst predicted reward in the last phase.

    The phase depends only on the env steps. Remote runners get only the env steps, so
    they explore according to the learner's phase.

    Attributes:
        estimator: Predicts the (scaled) reward in every group.
        phase: ``behaviour``, ``estimator`` or ``training``.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        config: Mapping[str, Any],
    ) -> None:
        """Initializes the policy; see :class:`ValuePolicy`.

        Args:
            observation_space: The team's observation space.
            action_space: The team's action space.
            config: A :class:`~rllib_risk.algorithms.group_dr.GroupDRConfig`, or its
                dict.
        """
        super().__init__(observation_space, action_space, config)
        self.phase = BEHAVIOUR
        self._phase_start = 0
        sizes = team_sizes(observation_space, action_space)
        estimator = RewardModel(sizes, len(self.config["env_variants"]))
        self.estimator = estimator.to(self.device)
        # RLlib looks for the parameters of optimizer() in the acting model only, so it
        # is added here. The optimizer of the dual variable must stay the last one.
        adam = torch.optim.Adam(self._estimated(), self.config["estimator_lr"])
        self.optimizers.insert(_ESTIMATOR, adam)

    def modules(self) -> dict[str, nn.Module]:
        """See TeamPolicy."""
        return {**super().modules(), "estimator": self.estimator}

    def _estimated(self) -> list[nn.Parameter]:
        return [p for p in self.estimator.parameters() if p.requires_grad]

    # Phases

    def on_global_var_update(self, global_vars: Mapping[str, Any]) -> None:
        """Sets the phase from the env steps; see RLlib.

        The last phase trains from scratch, so its schedules start again.
        """
        env_steps = int(global_vars["timestep"])
        estimator_start = self.config["behaviour_env_steps"]
        training_start = estimator_start + self.config["estimator_env_steps"]
        self._phase_start = 0
        if env_steps < estimator_start:
            self.phase = BEHAVIOUR
        elif env_steps < training_start:
            self.phase = ESTIMATOR
        else:
            self.phase, self._phase_start = TRAINING, training_start
        own = {**global_vars, "timestep": env_steps - self._phase_start}
        super().on_global_var_update(own)

    def make_explorer(self, num_envs: int) -> Explorer:
        """See TeamPolicy; in the estimator phase, the whole team explores at once."""
        if self.phase == ESTIMATOR:
            return TeamEpsilonGreedy(num_envs, self.network.sizes.num_agents)
        return super().make_explorer(num_envs)

    def epsilon_at(self, env_steps: int) -> float:
        """See TeamPolicy."""
        if self.phase == ESTIMATOR:
            return self.config["behaviour_epsilon"]
        return super().epsilon_at(env_steps - self._phase_start)

    def epsilons_at(self, env_steps: int, num_envs: int) -> np.ndarray:
        """See TeamPolicy; in the estimator phase, equal in all environments."""
        if self.phase == ESTIMATOR:
            return np.full(num_envs, self.epsilon_at(env_steps))
        return super().epsilons_at(env_steps, num_envs)

    def reinitialize(self) -> None:
        """Resets networks and optimizers to the state at the beginning of a run.

        The seed decides all randomness, so that a resumed run does the same. The
        estimator does not change.
        """
        words = (self.config.get("seed") or 0, _RESTART_STREAM)
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed >> 1)
            network = TeamNetwork(self.network.sizes, self.config)
            _copy_parameters(network, self.network)
            if self.dual is not None:
                _copy_parameters(cast("nn.Module", self.make_dual()), self.dual)
        self.update_target()
        for index, optimizer in enumerate(self.optimizers):
            if index != _ESTIMATOR:
                optimizer.state.clear()

    # Learning

    @property
    def estimator_has_learned(self) -> bool:
        """Whether the estimator has made a gradient step."""
        return bool(self.optimizers[_ESTIMATOR].state)

    def tensors(self, samples: Mapping[str, Any]) -> Batch:
        """See TeamPolicy; in the last phase, with the worst predicted rewards."""
        batch = super().tensors(samples)
        if self.phase != TRAINING:
            return batch
        return dataclasses.replace(batch, rewards=self.worst_rewards(batch))

    @torch.no_grad()
    def worst_rewards(self, batch: Batch) -> Tensor:
        """Returns the smallest predicted reward over the groups.

        Args:
            batch: A batch; its real rewards are not used.

        Returns:
            Rewards in the units of the environment, ``[B, T, 1]``; zero where the mask
            is 0.
        """
        worst = self._predict(batch).amin(dim=-1, keepdim=True)
        return worst / self.config["reward_scale"] * batch.mask

    def _predict(self, batch: Batch) -> Tensor:
        """Predicts scaled rewards, ``[B, T, G]``."""
        first = cast("Tensor", batch.first).unsqueeze(-1)  # [B, 1]
        steps = torch.arange(batch.actions.shape[1], device=first.device) + first
        return self.estimator(batch.state[:, :-1], batch.actions, steps)

    def view(
        self, batch: Batch, stream: int, network: TeamNetwork | None = None
    ) -> View:
        """See ValuePolicy."""
        view = super().view(batch, stream, network)
        view.log("reward_mean", masked_mean(batch.rewards, batch.mask))
        return view

    def learn_rewards_on_batch(
        self, samples: SampleBatch, groups: Sequence[int]
    ) -> dict[str, float]:
        """Makes one gradient step of the estimator; each row trains its group's output.

        Args:
            samples: A batch from :func:`rllib_risk.data.episodes.collate`.
            groups: The group of every row, ``[B]``.

        Returns:
            The mean squared error of scaled rewards, over all steps and per group.
        """
        # Uses the real rewards, even if the env steps are already in the last phase.
        batch = super().tensors(samples)
        own_group = torch.tensor(groups, device=self.device)  # [B]
        predicted = self._predict(batch)  # [B, T, G]
        index = own_group[:, None, None].expand(-1, predicted.shape[1], 1)
        errors = predicted.gather(-1, index)
        errors = (errors - self.config["reward_scale"] * batch.rewards).square()
        loss = masked_mean(errors, batch.mask)  # of [B, T, 1]
        self._step(self.optimizers[_ESTIMATOR], loss, self._estimated())
        stats = {"estimator_loss": loss.item()}
        for group in range(predicted.shape[-1]):
            rows = own_group == group
            if rows.any():
                own = masked_mean(errors.detach()[rows], batch.mask[rows])
                stats[f"estimator_loss_{group}"] = own.item()
        return stats


@torch.no_grad()
def _copy_parameters(source: nn.Module, target: nn.Module) -> None:
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    for theirs, ours in pairs:
        ours.copy_(theirs)
