"""One batch as the parts of a composition see it: what they may ask for, by name.

Letters: ``B`` episodes, ``T`` steps, ``N`` agents, ``A`` actions, ``S`` state size,
``M`` atoms, ``G`` outputs of the mixer (1, or ``N``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rllib_risk.ops.schedule import Schedule, schedule_value
from rllib_risk.ops.targets import masked_mean
from rllib_risk.parts.batch import Batch
from rllib_risk.parts.outputs import Pass
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll

if TYPE_CHECKING:
    from rllib_risk.parts.targets.base import Target
    from rllib_risk.parts.weights.base import TDWeighting


@dataclass
class View:
    """What a loss, a target, a TD weighting or a replay may ask of one update.

    Everything is computed when it is first asked for, and once. What comes from the
    target network has no gradient.

    Attributes:
        network: The online network.
        target_network: The target network.
        encoded: Both networks' encodings of the batch.
        batch: The steps that are learned from, in the environment's units.
        target: The target of this composition.
        weighting: Its TD weighting.
        gamma: Discount.
        reward_scale: Factor on rewards; :attr:`rewards`, :attr:`targets` and everything
            that a network says are scaled by it.
        env_steps: Env steps so far, on which schedules depend.
        wants_stats: Whether what is logged is read; of most updates it is not.
        of_dataset: Whether the batch comes from a dataset.
        dual: What the target or the penalty learns beside the networks, or None.
        draws: Source of random numbers, on the CPU, seeded for this update.
        logged: What was logged so far.
    """

    network: TeamNetwork
    target_network: TeamNetwork
    encoded: Pass
    batch: Batch
    target: Target
    weighting: TDWeighting
    gamma: float
    reward_scale: float
    env_steps: int = 0
    wants_stats: bool = True
    of_dataset: bool = False
    dual: nn.Module | None = None
    draws: torch.Generator = field(
        default_factory=lambda: torch.Generator().manual_seed(0)
    )
    logged: dict[str, Tensor] = field(default_factory=dict)

    # What was seen and done.

    @property
    def mask(self) -> Tensor:
        """1 at real steps, 0 in the padding, ``[B, T, 1]``."""
        return self.batch.mask

    @property
    def actions(self) -> Tensor:
        """The actions that were taken, int64 ``[B, T, N]``."""
        return self.batch.actions

    @property
    def state(self) -> Tensor:
        """The states in which they were taken, ``[B, T, S]``."""
        return self.batch.state[:, :-1]

    @property
    def next_state(self) -> Tensor:
        """The states that followed, ``[B, T, S]``."""
        return self.batch.state[:, 1:]

    @property
    def action_mask(self) -> Tensor:
        """Nonzero where an action was available, ``[B, T, N, A]``."""
        return self.batch.action_mask[:, :-1]

    @property
    def next_action_mask(self) -> Tensor:
        """Nonzero where one is available in what followed, ``[B, T, N, A]``."""
        return self.batch.action_mask[:, 1:]

    @property
    def terminateds(self) -> Tensor:
        """1 where the episode truly ended, ``[B, T, 1]``."""
        return self.batch.terminateds

    @cached_property
    def rewards(self) -> Tensor:
        """Scaled rewards, ``[B, T, 1]``."""
        return self.batch.rewards * self.reward_scale

    @cached_property
    def discount(self) -> Tensor:
        """``gamma``, and 0 where the episode truly ended, ``[B, T, 1]``."""
        return self.gamma * (1.0 - self.terminateds)

    # What the networks say.

    @property
    def online(self) -> Unroll:
        """The steps, encoded by the online network; with gradient."""
        return self.encoded.online

    @property
    def greedy(self) -> Tensor:
        """The actions of the target's maximum at each step, int64 ``[B, T, N]``."""
        return self.encoded.greedy

    @property
    def next_greedy(self) -> Tensor:
        """The same where each step led to, int64 ``[B, T, N]``."""
        return self.encoded.greedy_following

    @cached_property
    def values(self) -> Tensor:
        """The mixed value of the actions taken; with gradient, ``[B, T, G]``."""
        return self.values_of(self.actions)

    def values_of(self, actions: Tensor) -> Tensor:
        """The mixed value of any joint action; with gradient.

        Args:
            actions: int64 ``[B, T, N]``.

        Returns:
            ``[B, T, G]``.
        """
        return self.network.values_of(
            self.online, actions, self.state, self.action_mask
        )

    def values_of_each(self, actions: Tensor) -> Tensor:
        """The mixed values of several joint actions per step; with gradient.

        Args:
            actions: int64 ``[B, T, K, N]``.

        Returns:
            ``[B, T, K, G]``.
        """
        return self.network.values_of_each(
            self.online, actions, self.state, self.action_mask
        )

    @cached_property
    def joint_values(self) -> Tensor:
        """The joint critic's value of the actions taken; with gradient, ``[B, T, 1]``.

        There must be a joint critic.
        """
        return self.network.joint_values_of(self.online, self.actions, self.state)

    @cached_property
    @torch.no_grad()
    def next_values(self) -> Tensor:
        """The target network's value of what followed each step, ``[B, T, G]``.

        It comes from the joint critic, where there is one.
        """
        target, unroll = self.target_network, self.encoded.following
        if target.joint_critic is not None:
            return target.joint_critic.next_values(self)
        return target.values_of(
            unroll, self.next_greedy, self.next_state, self.next_action_mask
        )

    @cached_property
    @torch.no_grad()
    def targets(self) -> Tensor:
        """What the mixed values should be, ``[B, T, G]``; zero in the padding."""
        targets = self.target.targets(self)
        # An error that is not finite would make NaN of a gradient that is masked later.
        return torch.where(self.mask > 0, targets, 0.0)

    @cached_property
    def errors(self) -> Tensor:
        """TD errors, targets minus values; with gradient, ``[B, T, G]``."""
        return self.targets - self.values

    # The same as distributions, where the mixer can mix them.

    @cached_property
    def atoms(self) -> Tensor:
        """Atoms of the values of the actions taken; with gradient, ``[B, T, G, M]``."""
        return self.network.team_atoms_of(
            self.online, self.actions, self.state, self.action_mask
        )

    @cached_property
    @torch.no_grad()
    def target_atoms(self) -> Tensor:
        """What the atoms should be, ``[B, T, G, M]``; zero in the padding."""
        next_atoms = self.target_network.team_atoms_of(
            self.encoded.following,
            self.next_greedy,
            self.next_state,
            self.next_action_mask,
        )
        targets = self.target.target_atoms(self, next_atoms)
        return torch.where(self.mask.unsqueeze(-1) > 0, targets, 0.0)

    # What a part does with it.

    def weigh(self, losses: Tensor, errors: Tensor) -> Tensor:
        """Multiplies losses by the weights of the composition's TD weighting.

        Args:
            losses: ``[B, T, G]``.
            errors: Targets minus values, without gradient, ``[B, T, G]``.

        Returns:
            ``[B, T, G]``.
        """
        return self.weighting.weigh(losses, errors, self)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over real steps, and over agents or outputs.

        Args:
            values: ``[B, T, .]``.

        Returns:
            A scalar.
        """
        return masked_mean(values, self.mask)

    def now(self, schedule: Schedule) -> float:
        """The present value of a key that may be a schedule.

        Args:
            schedule: A number, or points ``[[env_steps, value], ...]``.
        """
        return schedule_value(schedule, self.env_steps)

    def log(self, name: str, value: Tensor) -> None:
        """Logs a number under ``learner`` in the results.

        Args:
            name: Its name there.
            value: A scalar.
        """
        self.logged[name] = value.detach()
