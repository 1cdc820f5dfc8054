"""The policy of a team: acting, batches, and the gradient step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.models import ModelCatalog
from torch import Tensor, nn

from rllib_risk.core import ray_internals
from rllib_risk.core.gradient import (
    Share,
    follow_schedules,
    gradient_step,
    make_optimizer,
)
from rllib_risk.core.model import MODEL_NAME, TeamModel, register_model, team_sizes
from rllib_risk.core.sampler_acting import SamplerPolicy
from rllib_risk.core.stopwatch import Stopwatch
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.acting import Actor, make_actor
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.draws import RowGenerator, rand_rows
from rllib_risk.parts.exploration import Explorer
from rllib_risk.parts.objectives.static import ReturnWatch, Static
from rllib_risk.parts.team import TeamNetwork, network_keys

# Random stream of thresholds. The streams of losses have lower numbers.
_THRESHOLD_STREAM = 2**20


class TeamPolicy(SamplerPolicy):
    """One policy for the whole team: acting, and learning code for all algorithms.

    A subclass adds :meth:`optimizer`, :meth:`make_explorer`, :meth:`modules`, and the
    updates that its algorithm calls.

    Attributes:
        stochastic: Whether utilities are logits from which actions are sampled.
        relabels: Whether updates replace the thresholds with which episodes were
            played, for an objective with thresholds.
        network: The network that acts.
        update_index: Number of previous updates. All randomness of an update follows
            from it and the seed, so that a resumed run repeats exactly.
        wants_stats: Whether to compute logging statistics besides the gradient's norm.
            Most updates skip them.
        share: This learner's part of the current update. None: the only learner.
        stopwatch: Measures the parts of an update.
    """

    stochastic: ClassVar[bool] = False
    relabels: ClassVar[bool] = False

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        config: Mapping[str, Any],
    ) -> None:
        """Initializes the policy; see RLlib's ``TorchPolicyV2``.

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
        # RLlib turns on torch's deterministic mode for a seed. In this mode torch also
        # fills every new tensor, which takes a tenth of the time of small networks. No
        # result depends on it, because no code here reads memory before writing to it.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.network: TeamNetwork = self.model.network
        self.update_index = 0
        self.wants_stats = True
        self.share: Share | None = None
        self.stopwatch = Stopwatch()

    def make_model(self) -> TeamModel:
        """Builds the model from the configuration; see TorchPolicyV2."""
        register_model()
        sizes = team_sizes(self.observation_space, self.action_space)
        return ModelCatalog.get_model_v2(
            obs_space=self.observation_space,
            action_space=self.action_space,
            num_outputs=sizes.num_agents * sizes.num_actions,
            model_config={
                **self.config["model"],
                "custom_model": MODEL_NAME,
                "custom_model_config": {
                    **self.window(),
                    **network_keys(self.config),
                },
            },
            framework="torch",
        )

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers, in the order in which a checkpoint holds them."""
        return ray_internals.optimizers(self)

    def make_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Creates the configured optimizer; see :func:`.make_optimizer`.

        Args:
            groups: Parameters and learning rates, which may be schedules.
        """
        return make_optimizer(self.config, groups)

    def on_global_var_update(self, global_vars: Mapping[str, Any]) -> None:
        """Updates schedules to the env steps so far; see RLlib."""
        super().on_global_var_update(global_vars)
        for optimizer in self.optimizers:
            follow_schedules(optimizer, self.global_timestep)

    # Acting

    def make_actor(self, num_envs: int) -> Actor:
        """Creates an actor with the current weights.

        Args:
            num_envs: Number of environments that act at once.

        Returns:
            An actor at the start of ``num_envs`` episodes.
        """
        return make_actor(self.network, num_envs, **self.window())

    def window(self) -> dict[str, Any]:
        """Returns the window of steps to act on, as arguments of ``make_actor``."""
        return {
            "window": self.config.get("acting_window"),
            "padded": self.config.get("window_padding") == "zeros",
        }

    def watch_returns(
        self, num_envs: int, thresholds: np.ndarray | None = None
    ) -> ReturnWatch | None:
        """Creates the tracker of returns so far; None if agents do not see them.

        Args:
            num_envs: Number of environments that act at once.
            thresholds: See :class:`~rllib_risk.parts.objectives.static.ReturnWatch`.
        """
        objective = self.network.objective
        if not isinstance(objective, Static):
            return None
        return ReturnWatch(objective, self.config["gamma"], num_envs, thresholds)

    def make_explorer(self, num_envs: int) -> Explorer:
        """Creates the explorer, which chooses actions while sampling.

        Args:
            num_envs: Number of environments that act at once.

        Returns:
            A new explorer.
        """
        raise NotImplementedError

    def epsilon_at(self, env_steps: int) -> float:
        """See SamplerPolicy."""
        c = self.config
        points = (
            (0, c["initial_epsilon"]),
            (c["epsilon_anneal_env_steps"], c["final_epsilon"]),
        )
        return schedule_value(points, env_steps)

    def epsilons_at(self, env_steps: int, num_envs: int) -> np.ndarray:
        """Returns the epsilon of every environment of all runners.

        Args:
            env_steps: Env steps sampled so far.
            num_envs: ``E``, number of environments of all runners.

        Returns:
            Epsilons, float64 ``[E]``.
        """
        return np.full(num_envs, self.epsilon_at(env_steps))

    # Learning

    def tensors(self, samples: Mapping[str, Any]) -> Batch:
        """Moves a collated batch to the device.

        Args:
            samples: Batch from :func:`rllib_risk.data.episodes.collate`.

        Returns:
            The batch as tensors. With objective ``static`` its rewards are changes of
            the shortfall.
        """
        batch = Batch.of(samples, self.device)
        objective = self.network.objective
        if not isinstance(objective, Static):
            return batch
        thresholds = None
        if self.relabels:
            generator = self.generator(_THRESHOLD_STREAM)
            thresholds = rand_rows((len(batch.obs),), generator)
        return objective.transform(batch, samples, self.config["gamma"], thresholds)

    @property
    def gamma(self) -> float:
        """Discount of the rewards that :meth:`tensors` returns."""
        return self.network.objective.gamma(self.config["gamma"])

    def generator(self, stream: int) -> torch.Generator:
        """Creates a random generator for this update; see :attr:`update_index`.

        Args:
            stream: Number that distinguishes the generators of one update.

        Returns:
            A generator on the CPU, so that all devices draw the same numbers. With
            several learners it is a :class:`RowGenerator` for this learner's rows.
        """
        words = (self.config.get("seed") or 0, self.update_index, stream)
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        generator = torch.Generator()
        if self.share is not None:
            generator = RowGenerator()
            generator.share = self.share.rows
        return generator.manual_seed(seed >> 1)

    def modules(self) -> dict[str, nn.Module]:
        """Returns the modules that a checkpoint must hold, by name."""
        raise NotImplementedError

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        *parameters: Sequence[Tensor],
    ) -> float:
        """Makes one gradient step, clipped at ``grad_clip``.

        Args:
            optimizer: The optimizer.
            loss: A scalar.
            *parameters: Groups of parameters. Each is clipped on its own.

        Returns:
            See :func:`.gradient_step`.
        """
        return gradient_step(
            optimizer,
            loss,
            parameters,
            self.config["grad_clip"],
            self.share,
            self.stopwatch,
        )


@torch.no_grad()
def move_towards(
    target: Iterable[Tensor], online: Iterable[Tensor], tau: float
) -> None:
    """Moves a network's parameters towards another's.

    Args:
        target: Parameters to move; changed in place.
        online: Parameters to move to, in the same order and with the same shapes.
        tau: Polyak rate; 1 copies.
    """
    torch._foreach_lerp_(list(target), list(online), tau)
