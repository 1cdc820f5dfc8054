"""The policy of a team: acting, batches, and the gradient step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.models import ModelCatalog
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2
from torch import Tensor, nn

from rllib_risk.core import ray_internals
from rllib_risk.core.model import MODEL_NAME, TeamModel, register_model, team_sizes
from rllib_risk.data import episodes as columns
from rllib_risk.ops.schedule import schedule_value
from rllib_risk.parts.acting import Actor, make_actor
from rllib_risk.parts.batch import Batch, learned_steps
from rllib_risk.parts.exploration import EpsilonGreedy, Explorer
from rllib_risk.parts.objectives.static import ReturnWatch, Static
from rllib_risk.parts.team import TeamNetwork, network_keys

# Where a parameter group keeps what its learning rate follows.
_SCHEDULE = "schedule"
# Stream of thresholds; those of losses are small numbers.
_THRESHOLD_STREAM = 2**20


class TeamPolicy(TorchPolicyV2):
    """One policy for the whole team: acting, and what all learners share.

    A learner adds :meth:`optimizer`, :meth:`make_explorer`, :meth:`modules`, and the
    updates that its algorithm asks for.

    Attributes:
        relabels: Whether episodes are learned from for other thresholds than they were
            played for, where the objective has thresholds.
        network: The network that acts.
        update_index: How many updates were made before; all randomness of an update
            follows from it and the seed, so that a resumed run repeats.
        wants_stats: Whether an update need say more than its gradient's norm.
    """

    relabels: ClassVar[bool] = False

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
        self.update_index = 0
        self.wants_stats = True
        self._num_explored = 0

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
        """The optimizer that the configuration names.

        Args:
            groups: Parameters and learning rates, which may be schedules.

        Returns:
            Adam, or RMSprop with PyMARL's constants.
        """
        c = self.config
        groups = [
            group | {"lr": schedule_value(group["lr"], 0), _SCHEDULE: group["lr"]}
            for group in groups
        ]
        eps = c["optimizer_eps"]
        if c["optimizer"] == "adam":
            return torch.optim.Adam(groups, eps=1e-8 if eps is None else eps)
        eps = 1e-5 if eps is None else eps
        return torch.optim.RMSprop(groups, alpha=c["rmsprop_smoothing"], eps=eps)

    def on_global_var_update(self, global_vars: Mapping[str, Any]) -> None:
        """Takes the env steps so far, on which schedules depend; see RLlib."""
        super().on_global_var_update(global_vars)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if _SCHEDULE in group:
                    group["lr"] = schedule_value(group[_SCHEDULE], self.global_timestep)

    # Acting

    def make_actor(self, num_envs: int) -> Actor:
        """Someone who acts greedily with the present weights.

        Args:
            num_envs: How many environments act at once.

        Returns:
            An actor at the start of that many episodes.
        """
        return make_actor(self.network, num_envs, **self.window())

    def window(self) -> dict[str, Any]:
        """The steps to act on, as arguments of :func:`make_actor`."""
        return {
            "window": self.config.get("acting_window"),
            "padded": self.config.get("window_padding") == "zeros",
        }

    def watch_returns(
        self, num_envs: int, thresholds: np.ndarray | None = None
    ) -> ReturnWatch | None:
        """What agents see of the return so far; None: they do not see it.

        Args:
            num_envs: How many environments act at once.
            thresholds: See :class:`~rllib_risk.parts.objectives.static.ReturnWatch`.
        """
        objective = self.network.objective
        if not isinstance(objective, Static):
            return None
        return ReturnWatch(objective, self.config["gamma"], num_envs, thresholds)

    def make_explorer(self, num_envs: int) -> Explorer:
        """Who turns utilities into exploring actions.

        Args:
            num_envs: How many environments act at once.

        Returns:
            A fresh explorer.
        """
        raise NotImplementedError

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

    def epsilons_at(self, env_steps: int, num_envs: int) -> np.ndarray:
        """Epsilon of every environment of all runners.

        Args:
            env_steps: Env steps sampled so far.
            num_envs: ``E``, over all runners.

        Returns:
            float64 ``[E]``.
        """
        return np.full(num_envs, self.epsilon_at(env_steps))

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
        Without state an episode begins. Exploration keeps nothing between calls, so it
        is plain epsilon-greedy here whatever the configuration says. Our worker does
        not come this way.

        Raises:
            ValueError: If the state is not what this policy returned, or the objective
                is ``static``.
        """
        obs = obs_batch[SampleBatch.OBS]
        if self.network.objective.sees_return:
            raise ValueError(
                "objective: 'static' acts on the return so far, which is unknown here."
                " Play with rllib evaluate or evaluate_episodes() of the algorithm."
            )
        with torch.inference_mode():
            state = self._complete_state(state_batches, len(obs["action_mask"]))
            decision, state = model.step(
                obs["obs"].float(), obs["action_mask"], list(state)
            )
            actions = decision.utilities.argmax(dim=-1)
            if explore:
                epsilon = np.full(len(actions), self.epsilon_at(timestep))
                self._num_explored += 1
                words = (self._explore_seed(), timestep, self._num_explored)
                chosen = self._memoryless_explorer(*actions.shape).explore(
                    decision.utilities.cpu().numpy(),
                    obs["action_mask"].cpu().numpy(),
                    epsilon,
                    np.random.default_rng(words),
                )
                actions = torch.from_numpy(chosen).to(self.device)
            model.remember(state, actions)
        return actions, torch.zeros(len(actions)), None, state

    def _complete_state(self, state: list[Tensor], num_envs: int) -> list[Tensor]:
        """The state of an episode's start where none is given; checks one that is."""
        parts = self.model.get_initial_state()
        first = [part.expand(num_envs, *part.shape) for part in parts]
        if not state:
            return first
        if [part.shape for part in state] != [part.shape for part in first]:
            raise ValueError(
                f"state: has shapes {[tuple(part.shape) for part in state]}, and this"
                f" policy needs {[tuple(part.shape) for part in first]}. Pass the state"
                " that the last call returned. At the start of an episode leave state"
                " out, or pass policy.get_initial_state()."
            )
        return state

    def compute_actions_from_input_dict(
        self, input_dict: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """See RLlib. Schedules do not move on: the actions are not of the training."""
        obs = input_dict[SampleBatch.OBS]
        if isinstance(obs, np.ndarray) and obs.dtype == object:
            # Algorithm.compute_actions stacks whole dicts.
            stacked = {key: np.stack([o[key] for o in obs]) for key in obs[0]}
            input_dict = {**input_dict, SampleBatch.OBS: stacked}
        with self._standing_schedules():
            return super().compute_actions_from_input_dict(input_dict, *args, **kwargs)

    def compute_actions(
        self, *args: Any, **kwargs: Any
    ) -> tuple[Any, list[Any], dict[str, Any]]:
        """See RLlib. Schedules do not move on: the actions are not of the training."""
        with self._standing_schedules():
            return super().compute_actions(*args, **kwargs)

    @contextlib.contextmanager
    def _standing_schedules(self) -> Iterator[None]:
        # RLlib's own versions count the actions as env steps of the training.
        now: int = self.global_timestep  # type: ignore[has-type]
        try:
            yield
        finally:
            self.global_timestep = now

    def _memoryless_explorer(self, num_envs: int, num_agents: int) -> Explorer:
        return EpsilonGreedy(num_envs, num_agents)

    def _explore_seed(self) -> int:
        return int(self.config.get("seed") or 0) + int(self.config["worker_index"])

    # Learning

    def tensors(self, samples: Mapping[str, Any]) -> Batch:
        """Moves a collated batch to the device.

        Args:
            samples: From :func:`rllib_risk.data.episodes.collate`.

        Returns:
            The batch as tensors.
        """

        def tensor(key: str) -> Tensor:
            return torch.as_tensor(samples[key]).to(self.device)

        steps = learned_steps(np.asarray(samples[columns.MASK]))
        learned = None if steps is None else torch.from_numpy(steps).to(self.device)
        batch = Batch(
            obs=tensor(columns.OBS),
            state=tensor(columns.STATE),
            action_mask=tensor(columns.ACTION_MASK),
            actions=tensor(columns.ACTIONS),
            rewards=tensor(columns.REWARDS).unsqueeze(-1),
            terminateds=tensor(columns.TERMINATEDS).unsqueeze(-1),
            mask=tensor(columns.MASK).unsqueeze(-1),
            previous=tensor(columns.PREVIOUS),
            first=tensor(columns.FIRST),
            learned=learned,
        )
        objective = self.network.objective
        if not isinstance(objective, Static):
            return batch
        thresholds = None
        if self.relabels:
            generator = self.generator(_THRESHOLD_STREAM)
            thresholds = torch.rand(len(batch.obs), generator=generator)
        return objective.transform(batch, samples, self.config["gamma"], thresholds)

    @property
    def gamma(self) -> float:
        """The learner's discount, of the rewards that :meth:`tensors` gives."""
        return self.network.objective.gamma(self.config["gamma"])

    def generator(self, stream: int) -> torch.Generator:
        """The source of all randomness of one update; see :attr:`update_index`.

        Args:
            stream: Tells several sources of one update apart.

        Returns:
            A generator on the CPU, so that any device draws the same.
        """
        words = (self.config.get("seed") or 0, self.update_index, stream)
        seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
        return torch.Generator().manual_seed(seed >> 1)

    def modules(self) -> dict[str, nn.Module]:
        """Everything that a checkpoint must hold, by name."""
        raise NotImplementedError

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        *parameters: Sequence[Tensor],
    ) -> float:
        """One gradient step.

        Args:
            optimizer: The optimizer.
            loss: A scalar.
            *parameters: Groups of parameters. Each is clipped on its own.

        Returns:
            The L2 norm of the gradient of all groups together, before clipping.
        """
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip = self.config["grad_clip"]
        limit = float("inf") if clip is None else clip
        norms = [
            torch.nn.utils.clip_grad_norm_(group, limit).item() for group in parameters
        ]
        if not np.isfinite(norms).all():
            raise FloatingPointError(
                f"The gradient is not finite (loss {loss.item()}). Lower the learning"
                " rates or reward_scale, or look for huge rewards in the environment."
            )
        optimizer.step()
        return math.hypot(*norms)


@torch.no_grad()
def move_towards(
    target: Iterable[Tensor], online: Iterable[Tensor], tau: float
) -> None:
    """Moves a network's parameters towards another's.

    Args:
        target: Changed in place.
        online: In the same order, of the same shapes.
        tau: 1 copies; less is the Polyak rate.
    """
    torch._foreach_lerp_(list(target), list(online), tau)
