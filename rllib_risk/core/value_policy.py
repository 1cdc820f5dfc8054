"""The policy of value-based teams: the gradient steps and the target network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.policy.sample_batch import SampleBatch
from torch import Tensor, nn

from rllib_risk.core.policy import TeamPolicy, move_towards
from rllib_risk.networks.dual import DualNetwork
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.exploration import Explorer, ladder
from rllib_risk.parts.losses import (
    Batch,
    LossConfig,
    Pass,
    dual_loss,
    encode,
    quantile_loss,
    quantile_targets,
    team_loss,
)
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork

# Streams of random fractions: no two losses of one update share one. The dual updates
# of a block take the streams from the last one on.
_TD_STREAM, _QUANTILE_STREAM, _DUAL_STREAM = 0, 1, 2


class ValuePolicy(TeamPolicy):
    """The policy of value-based algorithms; GroupDR subclasses it.

    Attributes:
        target_network: The network that targets come from.
        dual: The dual variable of a target that is robust to total variation, or None.
            It has no target copy, and acting does not need it.
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
            config: A :class:`~rllib_risk.core.value_config.ValueConfig`, or its dict.
        """
        super().__init__(observation_space, action_space, config)
        self.target_network: TeamNetwork = copy.deepcopy(self.network)
        self.target_network.requires_grad_(False)
        # Collecting them anew takes longer than some updates of small networks.
        self._online = list(self.network.parameters())
        self._target = list(self.target_network.parameters())
        self._clipped = self._clip_groups()
        self.dual = self._make_dual()
        if self.dual is not None:
            # RLlib knows the model's parameters only, so this one is not made where it
            # asks for optimizers.
            adam = torch.optim.Adam(self.dual.parameters(), self.config["dual_lr"])
            self.optimizers.append(adam)

    def _clip_groups(self) -> list[list[nn.Parameter]]:
        """Parameters whose gradients share one limit.

        Independent agents with networks of their own are separate learners, so each of
        them has its own limit. All else is clipped together.
        """
        network = self.network
        agents = [list(agent.parameters()) for agent in network.agents]
        complete = sum(map(len, agents)) == len(self._online)
        return agents if complete and network.count_values() > 1 else [self._online]

    def _make_dual(self) -> DualNetwork | None:
        if self.config["target"] != "tv" or self.config["rho"] == 0.0:
            return None
        dual = DualNetwork(self.network.sizes, self.network.count_values())
        return dual.to(self.device)

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """The TD optimizer, and where QR is on a second one over the same parameters.

        Two, because the released RMIX gives quantile regression its own rate and its
        own Adam moments. See TorchPolicyV2.
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
        if c["qr_gate"] == "never":
            return [td]
        return [td, torch.optim.Adam(parameters, c["qr_lr"], eps=c["qr_eps"])]

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
        """Takes the env steps so far, on which schedules depend; see RLlib."""
        super().on_global_var_update(global_vars)
        level = self.network.level.at(self.global_timestep)
        if level is not None:
            self.network.risk.set_level(level)
            self.target_network.risk.set_level(level)

    # Exploration

    def make_explorer(self, num_envs: int) -> Explorer:
        """See TeamPolicy."""
        part = VALUE_PARTS.slots["exploration"].part(self.config["exploration"])
        num_agents = self.network.sizes.num_agents
        return part(num_envs, num_agents, options=part.read(self.config))

    def epsilons_at(self, env_steps: int, num_envs: int) -> np.ndarray:
        """See TeamPolicy."""
        epsilon = self.epsilon_at(env_steps)
        return ladder(epsilon, self.config["epsilon_ladder"], num_envs)

    # Learning

    def loss_config(self) -> LossConfig:
        """The switches of the losses, with schedules at their present values."""
        c, now = self.config, self.global_timestep
        scale, bounds = c["reward_scale"], c["dual_bounds"]
        return LossConfig(
            gamma=c["gamma"],
            reward_scale=c["reward_scale"],
            td_lambda=schedule_value(c["td_lambda"], now),
            watkins=c["td_lambda_cut"] == "watkins",
            loss=c["loss"],
            opt_weight=c["opt_weight"],
            nopt_weight=c["nopt_weight"],
            td_weighting=c["td_weighting"],
            td_weighting_alpha=schedule_value(c["td_weighting_alpha"], now),
            # A set of radius 0 holds the nominal kernel alone, and a dual variable
            # could only be wrong about it.
            target=c["target"] if c["rho"] > 0.0 else "plain",
            rho=c["rho"],
            v_min=scale * c["v_min"],
            robust_over=c["robust_over"],
            dual_loss=c["dual_loss"],
            dual_bounds=bounds and (scale * bounds[0], scale * bounds[1]),
            qr_loss=c["qr_loss"],
            qr_fractions=c["qr_fractions"],
            qr_kappa=c["qr_kappa"],
            qr_target=c["qr_target"],
            conservative_weight=c["conservative_weight"],
            conservative_on=c["conservative_on"],
            tail_level=c["tail_level"],
            stats=self.wants_stats,
        )

    @property
    def _target_window(self) -> int | None:
        """See :func:`encode`; None where the target's memory begins with the row."""
        shifted = self.config["target_window"] == "shifted"
        return self.config["burn_in"] + 1 if shifted else None

    def _encode(self, batch: Batch, stream: int) -> Pass:
        return encode(
            self.network,
            self.target_network,
            batch,
            double_q=self.config["double_q"],
            window=self._target_window,
            generator=self.generator(stream),
        )

    def td_targets_and_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of utilities, mixer and critic, and what to log of it."""
        encoded = self._encode(batch, _TD_STREAM)
        return team_loss(
            self.network,
            self.target_network,
            encoded,
            batch.stretch(),
            self.loss_config(),
            self.dual,
        )

    def quantile_regression_loss(self, batch: Batch) -> Tensor:
        """RMIX's quantile-regression loss."""
        encoded = self._encode(batch, _QUANTILE_STREAM)
        config = self.loss_config()
        batch = batch.stretch()
        targets = quantile_targets(
            self.network, self.target_network, encoded, batch, config
        )
        return quantile_loss(self.network, encoded, batch, targets, config)

    def loss(self, model: Any, dist_class: Any, train_batch: SampleBatch) -> Tensor:
        """The TD loss; see TorchPolicyV2."""
        return self.td_targets_and_loss(self.tensors(train_batch))[0]

    def learn_on_batch(self, postprocessed_batch: SampleBatch) -> dict[str, float]:
        """One TD step.

        TorchPolicyV2's own version pads to short sequences, splits over towers and
        keeps one gradient per parameter for all optimizers; whole episodes and two
        optimizers over the same parameters need none of that.

        Args:
            postprocessed_batch: From :func:`rllib_risk.data.episodes.collate`.

        Returns:
            What to log.
        """
        loss, stats = self.td_targets_and_loss(self.tensors(postprocessed_batch))
        norm = self._step_networks(self.optimizers[0], loss)
        return {key: value.item() for key, value in stats.items()} | {"grad_norm": norm}

    def _step_networks(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        # The loss is a mean over agents. Times their number, it gives each network of
        # an independent agent the gradient of that agent's own loss.
        groups = self._clipped
        return self._step(optimizer, loss * len(groups), *groups)

    def learn_quantiles_on_batch(self, samples: SampleBatch) -> dict[str, float]:
        """One quantile-regression step, with its own optimizer.

        Args:
            samples: From :func:`rllib_risk.data.episodes.collate`.

        Returns:
            What to log.
        """
        loss = self.quantile_regression_loss(self.tensors(samples))
        norm = self._step_networks(self.optimizers[1], loss)
        return {"qr_loss": loss.item(), "qr_grad_norm": norm}

    def learn_dual_on_batch(self, samples: SampleBatch, index: int) -> dict[str, float]:
        """One step of the dual variable; there must be one.

        Args:
            samples: From :func:`rllib_risk.data.episodes.collate`.
            index: Of this step among those before one update of the values.

        Returns:
            What to log.
        """
        batch = self.tensors(samples)
        dual = cast("DualNetwork", self.dual)
        target, double_q = self.target_network, self.config["double_q"]
        with torch.no_grad():
            encoded = encode(
                self.network if double_q else target,
                target,
                batch,
                double_q=double_q,
                window=self._target_window,
                generator=self.generator(_DUAL_STREAM + index),
            )
        part = batch.stretch()
        loss, stats = dual_loss(dual, target, encoded, part, self.loss_config())
        self._step(self.optimizers[-1], loss, list(dual.parameters()))
        return {key: value.item() for key, value in stats.items()}

    def update_target(self, tau: float = 1.0) -> None:
        """Moves the target network towards the online network.

        Args:
            tau: 1 copies; less is the Polyak rate.
        """
        move_towards(self._target, self._online, tau)
