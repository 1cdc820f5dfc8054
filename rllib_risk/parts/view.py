"""The view of a batch: all quantities that the parts of a composition may use.

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
from rllib_risk.parts.outputs import EncodedBatch
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.unroll import Unroll

if TYPE_CHECKING:
    from rllib_risk.parts.targets.base import Target
    from rllib_risk.parts.weights.base import TDWeighting


@dataclass
class View:
    """Quantities of one update for losses, targets, TD weightings and replays.

    Each quantity is computed once, when it is first used. Outputs of the target network
    have no gradient.

    Attributes:
        network: The online network.
        target_network: The target network.
        encoded: Both networks' encodings of the batch.
        batch: The batch without burn-in steps, in the environment's units.
        target: The target of this composition.
        weighting: The TD weighting of this composition.
        gamma: Discount.
        reward_scale: Factor on rewards. :attr:`rewards`, :attr:`targets` and all values
            of the networks have this scale.
        env_steps: Env steps sampled so far, for schedules.
        wants_stats: Whether to compute logging statistics. Most updates skip them.
        of_dataset: Whether the batch comes from a dataset.
        dual: Auxiliary module of the target or the penalty, or None.
        draws: Random generator on the CPU, seeded for this update.
        logged: Statistics logged so far.
    """

    network: TeamNetwork
    target_network: TeamNetwork
    encoded: EncodedBatch
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

    # Contents of the batch.

    @property
    def mask(self) -> Tensor:
        """1 on real steps, 0 in padding, ``[B, T, 1]``."""
        return self.batch.mask

    @property
    def actions(self) -> Tensor:
        """The actions that were taken, int64 ``[B, T, N]``."""
        return self.batch.actions

    @property
    def state(self) -> Tensor:
        """The global states of these steps, ``[B, T, S]``."""
        return self.batch.state[:, :-1]

    @property
    def next_state(self) -> Tensor:
        """The next global states, ``[B, T, S]``."""
        return self.batch.state[:, 1:]

    @property
    def action_mask(self) -> Tensor:
        """Nonzero where an action was available, ``[B, T, N, A]``."""
        return self.batch.action_mask[:, :-1]

    @property
    def next_action_mask(self) -> Tensor:
        """Nonzero where an action is available at the next step, ``[B, T, N, A]``."""
        return self.batch.action_mask[:, 1:]

    @property
    def terminateds(self) -> Tensor:
        """1 where the episode terminated (not truncated), ``[B, T, 1]``."""
        return self.batch.terminateds

    @cached_property
    def rewards(self) -> Tensor:
        """Scaled rewards, ``[B, T, 1]``."""
        return self.batch.rewards * self.reward_scale

    @cached_property
    def discount(self) -> Tensor:
        """``gamma``, or 0 where the episode terminated, ``[B, T, 1]``."""
        return self.gamma * (1.0 - self.terminateds)

    # Outputs of the networks.

    @property
    def online(self) -> Unroll:
        """The steps encoded by the online network, with gradients."""
        return self.encoded.online

    @property
    def greedy(self) -> Tensor:
        """Greedy actions at each step, int64 ``[B, T, N]``."""
        return self.encoded.greedy

    @property
    def next_greedy(self) -> Tensor:
        """Greedy actions at the next step of each step, int64 ``[B, T, N]``."""
        return self.encoded.greedy_following

    @cached_property
    def values(self) -> Tensor:
        """Mixed values of the actions taken, with gradients, ``[B, T, G]``."""
        return self.values_of(self.actions)

    def values_of(self, actions: Tensor) -> Tensor:
        """Computes the mixed values of given joint actions, with gradients.

        Args:
            actions: Joint actions, int64 ``[B, T, N]``.

        Returns:
            Values ``[B, T, G]``.
        """
        return self.network.values_of(
            self.online, actions, self.state, self.action_mask
        )

    def values_of_each(self, actions: Tensor) -> Tensor:
        """Computes the mixed values of several joint actions per step, with gradients.

        Args:
            actions: ``K`` joint actions per step, int64 ``[B, T, K, N]``.

        Returns:
            Values ``[B, T, K, G]``.
        """
        return self.network.values_of_each(
            self.online, actions, self.state, self.action_mask
        )

    @cached_property
    def joint_values(self) -> Tensor:
        """Values of the actions taken, from the joint critic, ``[B, T, 1]``.

        They have gradients. The composition must have a joint critic.
        """
        return self.network.joint_values_of(self.online, self.actions, self.state)

    @cached_property
    @torch.no_grad()
    def next_values(self) -> Tensor:
        """The target network's values of the next steps, ``[B, T, G]``.

        They come from the joint critic, if there is one.
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
        """Targets of the mixed values, ``[B, T, G]``; zero in padding."""
        targets = self.target.targets(self)
        # A non-finite error in padding would give a NaN gradient, even if masked later.
        return torch.where(self.mask > 0, targets, 0.0)

    @cached_property
    def errors(self) -> Tensor:
        """TD errors, targets minus values, with gradients, ``[B, T, G]``."""
        return self.targets - self.values

    # Distributions, for losses that fit them.

    @cached_property
    def atoms(self) -> Tensor:
        """Mixed atoms of the actions taken, with gradients, ``[B, T, G, M]``."""
        return self.network.team_atoms_of(
            self.online, self.actions, self.state, self.action_mask
        )

    @cached_property
    @torch.no_grad()
    def target_atoms(self) -> Tensor:
        """Targets of the mixed atoms, ``[B, T, G, M]``; zero in padding."""
        next_atoms = self.target_network.team_atoms_of(
            self.encoded.following,
            self.next_greedy,
            self.next_state,
            self.next_action_mask,
        )
        targets = self.target.target_atoms(self, next_atoms)
        return torch.where(self.mask.unsqueeze(-1) > 0, targets, 0.0)

    # Helpers for parts.

    def weigh(self, losses: Tensor, errors: Tensor) -> Tensor:
        """Multiplies losses by the weights of the composition's TD weighting.

        Args:
            losses: Losses ``[B, T, G]``.
            errors: Targets minus values, without gradient, ``[B, T, G]``.

        Returns:
            Weighted losses ``[B, T, G]``.
        """
        return self.weighting.weigh(losses, errors, self)

    def mean(self, values: Tensor) -> Tensor:
        """Computes the mean over real steps and over the last axis.

        Args:
            values: Values ``[B, T, .]``.

        Returns:
            A scalar.
        """
        return masked_mean(values, self.mask)

    def now(self, schedule: Schedule) -> float:
        """Returns the current value of a key that may be a schedule.

        Args:
            schedule: A number, or points ``[[env_steps, value], ...]``.
        """
        return schedule_value(schedule, self.env_steps)

    def log(self, name: str, value: Tensor) -> None:
        """Logs a number under ``learner`` in the results.

        Args:
            name: Name in the results.
            value: A scalar.
        """
        self.logged[name] = value.detach()
