"""The policy of a team: acting, the gradient steps, and target networks."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.models import ModelCatalog
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2
from torch import Tensor

from rllib_risk.core import episodes as columns
from rllib_risk.core.exploration import EpsilonGreedy, EpsilonZGreedy
from rllib_risk.core.losses import (
    Batch,
    QuantileLossConfig,
    encode,
    quantile_loss,
    quantile_targets,
    td_loss,
    td_targets,
)
from rllib_risk.core.model import MODEL_NAME, TeamModel, register_model, team_sizes
from rllib_risk.core.schedule import schedule_value
from rllib_risk.models.acting import Actor, make_actor
from rllib_risk.models.team import TeamNetwork, TeamNetworkConfig


class TeamPolicy(TorchPolicyV2):
    """One policy for the whole team; every value-based algorithm uses it as it is.

    Attributes:
        network: The online network.
        target_network: The network that targets come from.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        config: Mapping[str, Any],
    ) -> None:
        """Initializes the policy; see :class:`TorchPolicyV2`.

        Args:
            observation_space: The team's observation space.
            action_space: The team's action space.
            config: A :class:`~rllib_risk.core.config.TeamConfig`, or its dict.
        """
        config = dict(config)
        super().__init__(
            observation_space,
            action_space,
            config,
            max_seq_len=config["model"]["max_seq_len"],
        )
        self.network: TeamNetwork = self.model.network
        self.target_network: TeamNetwork = copy.deepcopy(self.network)
        self.target_network.requires_grad_(False)
        self._quantile_config = QuantileLossConfig(
            gamma=config["gamma"],
            qr_loss=config["qr_loss"],
            qr_fractions=config["qr_fractions"],
            qr_kappa=config["qr_kappa"],
            qr_target=config["qr_target"],
        )

    def make_model(self) -> TeamModel:
        """Builds the model from the configuration; see TorchPolicyV2."""
        register_model()
        names = [f.name for f in dataclasses.fields(TeamNetworkConfig)]
        sizes = team_sizes(self.observation_space, self.action_space)
        return ModelCatalog.get_model_v2(
            obs_space=self.observation_space,
            action_space=self.action_space,
            num_outputs=sizes.num_agents * sizes.num_actions,
            model_config={
                **self.config["model"],
                "custom_model": MODEL_NAME,
                "custom_model_config": {name: self.config[name] for name in names},
            },
            framework="torch",
        )

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
        eps = c["optimizer_eps"]
        if c["optimizer"] == "adam":
            eps = 1e-8 if eps is None else eps
            td: torch.optim.Optimizer = torch.optim.Adam(groups, eps=eps)
        else:
            eps = 1e-5 if eps is None else eps
            td = torch.optim.RMSprop(groups, alpha=c["rmsprop_smoothing"], eps=eps)
        if c["qr_gate"] == "never":
            return [td]
        return [td, torch.optim.Adam(parameters, c["qr_lr"], eps=c["qr_eps"])]

    # Acting

    def make_actor(self, num_envs: int) -> Actor:
        """Someone who acts greedily with the present weights.

        Args:
            num_envs: How many environments act at once.

        Returns:
            An actor at the start of that many episodes.
        """
        return make_actor(self.network, num_envs)

    def make_explorer(self, num_envs: int) -> EpsilonGreedy:
        """The exploration that the configuration names.

        Args:
            num_envs: How many environments act at once.

        Returns:
            A fresh explorer.
        """
        num_agents = self.network.sizes.num_agents
        if self.config["exploration"] == "epsilon_z_greedy":
            exponent = self.config["epsilon_z_exponent"]
            return EpsilonZGreedy(num_envs, num_agents, exponent)
        return EpsilonGreedy(num_envs, num_agents)

    def epsilon_at(self, env_steps: int) -> float:
        """The schedule's epsilon.

        Args:
            env_steps: Env steps sampled so far.

        Returns:
            Epsilon in [0, 1].
        """
        c = self.config
        points = (
            (0, c["initial_epsilon"]),
            (c["epsilon_anneal_env_steps"], c["final_epsilon"]),
        )
        return schedule_value(points, env_steps)

    def action_sampler_fn(
        self,
        model: TeamModel,
        *,
        obs_batch: Any,
        state_batches: list[Tensor],
        explore: bool = True,
        timestep: int = 0,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, None, list[Tensor]]:
        """Acts for RLlib's own sampler; see TorchPolicyV2.

        Serves ``Algorithm.compute_single_action`` and comparisons with RLlib's worker.
        It keeps no memory of its own between calls, so exploration is plain
        epsilon-greedy here whatever the configuration says; our worker does not come
        this way.
        """
        obs = obs_batch[SampleBatch.OBS]
        with torch.inference_mode():
            decision, carry = model.network.step(
                obs["obs"].float(), obs["action_mask"], list(state_batches)
            )
            actions = decision.utilities.argmax(dim=-1)
            if explore:
                explorer = EpsilonGreedy(*actions.shape)
                epsilon = np.full(len(actions), self.epsilon_at(timestep))
                mask = obs["action_mask"].cpu().numpy()
                rng = np.random.default_rng((self._explore_seed(), timestep))
                chosen = explorer.explore(actions.cpu().numpy(), mask, epsilon, rng)
                actions = torch.from_numpy(chosen).to(self.device)
            model.network.remember(carry, actions)
        return actions, torch.zeros(len(actions)), None, carry

    def _explore_seed(self) -> int:
        return int(self.config.get("seed") or 0) + int(self.config["worker_index"])

    # Learning

    def tensors(self, samples: Mapping[str, Any]) -> Batch:
        """Moves a collated batch to the device.

        Args:
            samples: From :func:`rllib_risk.core.episodes.collate`.

        Returns:
            The batch as tensors.
        """

        def tensor(key: str) -> Tensor:
            return torch.as_tensor(samples[key]).to(self.device)

        return Batch(
            obs=tensor(columns.OBS),
            state=tensor(columns.STATE),
            action_mask=tensor(columns.ACTION_MASK),
            actions=tensor(columns.ACTIONS),
            rewards=tensor(columns.REWARDS).unsqueeze(-1),
            terminateds=tensor(columns.TERMINATEDS).unsqueeze(-1),
            mask=tensor(columns.MASK).unsqueeze(-1),
        )

    def td_targets_and_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The TD loss of a batch, and what to log of it."""
        c = self.config
        encoded = encode(
            self.network, self.target_network, batch, double_q=c["double_q"]
        )
        targets = td_targets(
            self.target_network,
            encoded,
            batch,
            gamma=c["gamma"],
            td_lambda=schedule_value(c["td_lambda"], self.global_timestep),
            watkins=c["td_lambda_cut"] == "watkins",
            reward_scale=c["reward_scale"],
        )
        return td_loss(self.network, encoded, batch, targets)

    def quantile_regression_loss(self, batch: Batch) -> Tensor:
        """The quantile-regression loss of a batch."""
        encoded = encode(
            self.network,
            self.target_network,
            batch,
            double_q=self.config["double_q"],
        )
        targets = quantile_targets(
            self.network, self.target_network, encoded, batch, self._quantile_config
        )
        return quantile_loss(
            self.network, encoded, batch, targets, self._quantile_config
        )

    def loss(self, model: Any, dist_class: Any, train_batch: SampleBatch) -> Tensor:
        """The TD loss; see TorchPolicyV2."""
        return self.td_targets_and_loss(self.tensors(train_batch))[0]

    def learn_on_batch(self, postprocessed_batch: SampleBatch) -> dict[str, float]:
        """One TD step.

        TorchPolicyV2's own version pads to short sequences, splits over towers and
        keeps one gradient per parameter for all optimizers; whole episodes and two
        optimizers over the same parameters need none of that.

        Args:
            postprocessed_batch: From :func:`rllib_risk.core.episodes.collate`.

        Returns:
            What to log.
        """
        loss, stats = self.td_targets_and_loss(self.tensors(postprocessed_batch))
        norm = self._step(self._optimizers[0], loss)
        return {key: value.item() for key, value in stats.items()} | {"grad_norm": norm}

    def learn_quantiles_on_batch(self, samples: SampleBatch) -> dict[str, float]:
        """One quantile-regression step, with its own optimizer.

        Args:
            samples: From :func:`rllib_risk.core.episodes.collate`.

        Returns:
            What to log.
        """
        loss = self.quantile_regression_loss(self.tensors(samples))
        norm = self._step(self._optimizers[1], loss)
        return {"qr_loss": loss.item(), "qr_grad_norm": norm}

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip = self.config["grad_clip"]
        parameters = self.model.parameters()
        limit = float("inf") if clip is None else clip
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
        if not np.isfinite(norm):
            raise FloatingPointError(
                f"The gradient is not finite (loss {loss.item()}). Lower lr or"
                " reward_scale, or look for huge rewards in the environment."
            )
        optimizer.step()
        return norm

    @torch.no_grad()
    def update_target(self, tau: float = 1.0) -> None:
        """Moves the target network towards the online network.

        Args:
            tau: 1 copies; less is the Polyak rate.
        """
        online: list[Tensor] = list(self.network.parameters())
        target: list[Tensor] = list(self.target_network.parameters())
        torch._foreach_lerp_(target, online, tau)
