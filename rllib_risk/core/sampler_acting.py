"""Acting for RLlib's own sampler, one step at a time.

``Algorithm.compute_single_action`` and RLlib's own worker use this module. The worker
of this package acts with :mod:`rllib_risk.parts.acting` instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ray.rllib.policy.sample_batch import SampleBatch
from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2
from torch import Tensor

from rllib_risk.core.model import TeamModel
from rllib_risk.parts.exploration import EpsilonGreedy, Explorer


class SamplerPolicy(TorchPolicyV2):
    """A policy that RLlib's own sampler can act with."""

    _num_explored = 0

    def epsilon_at(self, env_steps: int) -> float:
        """Returns epsilon after a number of env steps.

        Args:
            env_steps: Env steps sampled so far.

        Returns:
            Epsilon in [0, 1].
        """
        raise NotImplementedError

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

        It serves ``Algorithm.compute_single_action`` and comparisons with RLlib's
        worker. A call without state begins an episode. Exploration has no state between
        calls, so the key ``exploration`` has no effect: it is plain epsilon-greedy, or
        samples from the policy if the team is stochastic.

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
        """Checks a given state; without one, returns that of an episode's start."""
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
        """See RLlib. Schedules stay, because the actions are not part of training."""
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
        """See RLlib. Schedules stay, because the actions are not part of training."""
        with self._standing_schedules():
            return super().compute_actions(*args, **kwargs)

    @contextlib.contextmanager
    def _standing_schedules(self) -> Iterator[None]:
        # RLlib's own versions count the actions as env steps of training.
        now: int = self.global_timestep  # type: ignore[has-type]
        try:
            yield
        finally:
            self.global_timestep = now

    def _memoryless_explorer(self, num_envs: int, num_agents: int) -> Explorer:
        return EpsilonGreedy(num_envs, num_agents)

    def _explore_seed(self) -> int:
        return int(self.config.get("seed") or 0) + int(self.config["worker_index"])
