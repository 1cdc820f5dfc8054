"""The policy of value-based teams: the gradient steps and the target network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.policy.sample_batch import SampleBatch
from torch import Tensor, nn

from rllib_risk.core.gradient import scheduled
from rllib_risk.core.policy import TeamPolicy, move_towards
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.exploration import Explorer, ladder
from rllib_risk.parts.learning import Learning
from rllib_risk.parts.regression import QuantileRegression
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View

# Random streams of fractions; each loss of an update has its own. The dual updates of a
# block use consecutive streams from _DUAL_STREAM on.
_TD_STREAM, _QUANTILE_STREAM, _DUAL_STREAM = 0, 1, 2
# Offset of the streams of penalties from those of networks.
_DRAWS = 2**19


class ValuePolicy(TeamPolicy):
    """The policy of value-based algorithms; GroupDR subclasses it.

    Attributes:
        learning: The learning parts of the composition.
        target_network: The network that computes targets.
        dual: Auxiliary module that the target or the penalty trains, or None. It has no
            target copy, and acting does not use it.
        on_batch: Functions called with every batch of :meth:`learn_on_batch` and its
            view, before the gradient step.
    """

    relabels: ClassVar[bool] = True

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
            config: A :class:`~rllib_risk.core.value_config.ValueConfig`, or its dict.
        """
        # First, because RLlib's initialization calls `optimizer`, which reads it.
        self.learning = Learning.of(dict(config))
        super().__init__(observation_space, action_space, config)
        self.on_batch: list[Callable[[SampleBatch, View], None]] = []
        self.target_network: TeamNetwork = copy.deepcopy(self.network)
        self.target_network.requires_grad_(False)
        # Collecting them again takes longer than some updates of small networks.
        self._online = list(self.network.parameters())
        self._target = list(self.target_network.parameters())
        self._clipped = self._clip_groups()
        self.dual = self.make_dual()
        if self.dual is not None:
            # Not in `optimizer`: RLlib expects only parameters of the model there.
            lr = self.learning.dual_learner.auxiliary_lr
            group = {"params": list(self.dual.parameters()), "lr": lr}
            self.optimizers.append(torch.optim.Adam(scheduled([group])))

    def _clip_groups(self) -> list[list[nn.Parameter]]:
        """Returns groups of parameters. Each group has its own gradient limit.

        Independent agents with separate networks are separate learners, so each of them
        is a group. Otherwise all parameters are one group.
        """
        network = self.network
        agents = [list(agent.parameters()) for agent in network.agents]
        complete = sum(map(len, agents)) == len(self._online)
        return agents if complete and network.count_values() > 1 else [self._online]

    @property
    def dual_block(self) -> int:
        """Number of updates of :attr:`dual` in a row; :attr:`dual` must exist."""
        return self.learning.dual_learner.auxiliary_block

    def make_dual(self) -> nn.Module | None:
        """Creates :attr:`dual` with new parameters; None if no part needs it."""
        dual = self.learning.make_dual(self.network)
        return None if dual is None else dual.to(self.device)

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """Creates the TD optimizer, and a second one if quantile regression is on.

        Both have the same parameters. The released RMIX gives quantile regression its
        own learning rate and its own Adam moments. See TorchPolicyV2.
        """
        c = self.config
        # The order is fixed: a checkpoint stores optimizer state by position.
        network: TeamNetwork = self.model.network
        predictors = {p for a in network.agents for p in a.predictor_parameters()}
        parameters = list(network.parameters())
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p not in predictors], "lr": c["lr"]}
        ]
        if predictors:
            lr = c["lr"] if c["risk_lr"] is None else c["risk_lr"]
            own = [p for p in parameters if p in predictors]
            groups.append({"params": own, "lr": lr})
        td = self.make_optimizer(groups)
        gate = self.learning.gate
        if not isinstance(gate, QuantileRegression):
            return [td]
        return [td, gate.optimizer(parameters)]

    def modules(self) -> dict[str, nn.Module]:
        """See TeamPolicy."""
        modules: dict[str, nn.Module] = {
            "online": self.network,
            "target": self.target_network,
        }
        if self.dual is not None:
            modules["dual"] = self.dual
        return modules

    def on_global_var_update(self, global_vars: Mapping[str, Any]) -> None:
        """Updates schedules to the env steps so far; see RLlib."""
        super().on_global_var_update(global_vars)
        level = self.network.level.at(self.global_timestep)
        if level is not None:
            self.network.risk.set_level(level)
            self.target_network.risk.set_level(level)

    # Exploration

    def make_explorer(self, num_envs: int) -> Explorer:
        """See TeamPolicy."""
        num_agents = self.network.sizes.num_agents
        return VALUE_PARTS.make(
            "exploration", self.config, num_envs=num_envs, num_agents=num_agents
        )

    def epsilons_at(self, env_steps: int, num_envs: int) -> np.ndarray:
        """See TeamPolicy."""
        epsilon = self.epsilon_at(env_steps)
        return ladder(epsilon, self.config["epsilon_ladder"], num_envs)

    # Learning

    def view(
        self, batch: Batch, stream: int, network: TeamNetwork | None = None
    ) -> View:
        """Creates the view of a batch that the parts read.

        Args:
            batch: The batch.
            stream: Stream of random numbers; see :meth:`generator`.
            network: Network in place of the online network.

        Returns:
            The view, with schedules at their current values.
        """
        c = self.config
        online = self.learning.copies.online
        return self.learning.view(
            network or self.network,
            self.network if online else self.target_network,
            batch,
            burn_in=c["burn_in"],
            generator=self.generator(stream),
            gamma=self.gamma,
            reward_scale=c["reward_scale"],
            env_steps=self.global_timestep,
            wants_stats=self.wants_stats,
            of_dataset=c["dataset"] is not None,
            dual=self.dual,
            draws=self.generator(_DRAWS + stream),
        )

    def team_loss(self, view: View) -> Tensor:
        """Computes the loss of utilities, mixer and critic.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        return self.learning.team_loss(view)

    def td_targets_and_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the TD loss of a batch, and the statistics to log."""
        view = self.view(batch, _TD_STREAM)
        return self.team_loss(view), view.logged

    def quantile_regression_loss(self, batch: Batch) -> Tensor:
        """Returns RMIX's quantile-regression loss; the gate must be a regression."""
        gate = cast("QuantileRegression", self.learning.gate)
        return gate.loss(self.view(batch, _QUANTILE_STREAM))

    def loss(self, model: Any, dist_class: Any, train_batch: SampleBatch) -> Tensor:
        """Returns the TD loss; see TorchPolicyV2."""
        return self.td_targets_and_loss(self.tensors(train_batch))[0]

    def learn_on_batch(self, postprocessed_batch: SampleBatch) -> dict[str, float]:
        """Makes one TD step.

        TorchPolicyV2's own version pads to short sequences, splits over towers and
        keeps one gradient per parameter for all optimizers. Whole episodes and two
        optimizers over the same parameters need none of that.

        Args:
            postprocessed_batch: Batch from :func:`rllib_risk.data.episodes.collate`.

        Returns:
            Statistics to log.
        """
        view = self.view(self.tensors(postprocessed_batch), _TD_STREAM)
        loss = self.team_loss(view)
        for told in self.on_batch:
            told(postprocessed_batch, view)
        norm = self._step_networks(self.optimizers[0], loss)
        return _numbers(view) | {"grad_norm": norm}

    def _step_networks(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        # The loss is a mean over agents. Multiplied by their number, it gives each
        # independent agent's network the gradient of that agent's own loss.
        groups = self._clipped
        return self._step(optimizer, loss * len(groups), *groups)

    def learn_quantiles_on_batch(self, samples: SampleBatch) -> dict[str, float]:
        """Makes one quantile-regression step, with its own optimizer.

        Args:
            samples: Batch from :func:`rllib_risk.data.episodes.collate`.

        Returns:
            Statistics to log.
        """
        loss = self.quantile_regression_loss(self.tensors(samples))
        norm = self._step_networks(self.optimizers[1], loss)
        return {"qr_loss": loss.item(), "qr_grad_norm": norm}

    def learn_dual_on_batch(self, samples: SampleBatch, index: int) -> dict[str, float]:
        """Makes one step of :attr:`dual`, which must exist.

        Args:
            samples: Batch from :func:`rllib_risk.data.episodes.collate`.
            index: Index of this step in its block of dual updates.

        Returns:
            Statistics to log.
        """
        batch, dual = self.tensors(samples), cast("nn.Module", self.dual)
        # With double Q-learning the online network chooses actions, without gradient.
        double_q = self.learning.encoding.options.double_q
        with torch.no_grad():
            view = self.view(
                batch,
                _DUAL_STREAM + index,
                self.network if double_q else self.target_network,
            )
        loss = self.learning.dual_learner.dual_loss(view)
        self._step(self.optimizers[-1], loss, list(dual.parameters()))
        return _numbers(view)

    def update_target(self, tau: float = 1.0) -> None:
        """Moves the target network towards the online network.

        Args:
            tau: Polyak rate; 1 copies.
        """
        move_towards(self._target, self._online, tau)


def _numbers(view: View) -> dict[str, float]:
    return {key: value.item() for key, value in view.logged.items()}
