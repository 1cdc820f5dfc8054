"""The learning side of a composition: its parts, and what they make of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rllib_risk.parts.batch import Batch
from rllib_risk.parts.departure import log_departure
from rllib_risk.parts.encoding import Encoding
from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.losses.td import critic_loss
from rllib_risk.parts.penalties.base import Penalty
from rllib_risk.parts.regression import Gate
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.target_copies import TargetCopies
from rllib_risk.parts.targets.base import DualTarget, Target
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import TDWeighting


@dataclass(frozen=True)
class Learning:
    """The parts that learning from a batch is made of.

    Attributes:
        loss: What the networks minimize.
        target: What their values should be.
        weighting: Which errors count less.
        gate: Quantile regression beside the loss, or none.
        encoding: How the networks go through a batch.
        penalty: The conservative penalty, or none.
        copies: When the target network follows.
    """

    loss: Loss
    target: Target
    weighting: TDWeighting
    gate: Gate
    encoding: Encoding
    penalty: Penalty
    copies: TargetCopies

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Learning:
        """The parts that a configuration chooses.

        Args:
            values: Its keys and values; others are at their defaults.
        """
        make = VALUE_PARTS.make
        return cls(
            loss=make("loss", values),
            target=make("target", values),
            weighting=make("td_weighting", values),
            gate=make("qr_gate", values),
            encoding=Encoding(Encoding.read(values)),
            penalty=make("penalty", values),
            copies=TargetCopies(TargetCopies.read(values)),
        )

    @property
    def dual_learner(self) -> DualTarget | Penalty:
        """The part that may learn something beside the networks; see `make_dual`."""
        return self.target if isinstance(self.target, DualTarget) else self.penalty

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """Makes what is learned beside the networks.

        Args:
            network: The online network.

        Returns:
            A module with new parameters; None: nothing is.

        Raises:
            ValueError: If target and penalty both need something.
        """
        of_penalty, target = self.penalty.make_dual(network), self.target
        if not isinstance(target, DualTarget):
            return of_penalty
        if of_penalty is not None:
            raise ValueError(
                "target and penalty: both learn something beside the networks, and"
                " there is place for one; choose another target."
            )
        return target.make_dual(network.sizes, network.count_values())

    def view(
        self,
        network: TeamNetwork,
        target_network: TeamNetwork,
        batch: Batch,
        *,
        burn_in: int = 0,
        generator: torch.Generator | None = None,
        **more: Any,
    ) -> View:
        """A batch as these parts see it.

        Args:
            network: The online network.
            target_network: The target network.
            batch: The batch.
            burn_in: Steps in front that fill a memory.
            generator: Source of the fractions of sampled quantiles.
            **more: Other fields of :class:`View`, among them ``gamma`` and
                ``reward_scale``.

        Returns:
            The view.
        """
        encoded = self.encoding.encode(
            network, target_network, batch, burn_in=burn_in, generator=generator
        )
        parts = self.target, self.weighting
        return View(network, target_network, encoded, batch.stretch(), *parts, **more)

    def team_loss(self, view: View) -> Tensor:
        """What one update minimizes, RMIX's quantile regression apart.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        weight = self.penalty.options.conservative_weight
        if view.wants_stats and (view.of_dataset or weight is not None):
            log_departure(view)
        if not self.loss.uses_targets:
            return self.loss.loss(view)
        # First, since it needs all atoms, and the loss takes its own out of them.
        penalty = self.penalty.of(view)
        of_critic = None if view.network.joint_critic is None else critic_loss(view)
        loss = self.loss.loss(view)
        if view.wants_stats:
            self.loss.log_errors(view)
        if of_critic is not None:
            loss = loss + of_critic
        if penalty is None:
            return loss
        # So that the weight means the same for numbers as for however many atoms: half
        # the squared error, and half the mean of the atoms' losses (theirs is a sum).
        return loss / (2 * self.loss.terms(view)) + penalty
