"""The learning parts of a composition, and the loss that they compute."""

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
    """The parts that compute the loss of a batch.

    Attributes:
        loss: The loss that the networks minimize.
        target: The Bellman target of the values.
        weighting: The weights of TD errors.
        gate: RMIX's additional quantile regression, and when it starts.
        encoding: How the networks encode a batch.
        penalty: The conservative penalty.
        copies: When the target network is updated.
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
        """Creates the parts that a configuration chooses.

        Args:
            values: Keys and values of the configuration. Missing keys have defaults.
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
        """The part that may train an auxiliary module; see `make_dual`."""
        return self.target if isinstance(self.target, DualTarget) else self.penalty

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """Creates the auxiliary module, such as a dual variable, if a part needs one.

        Args:
            network: The online network.

        Returns:
            A module with new parameters, or None if no part needs one.

        Raises:
            ValueError: If target and penalty both need an auxiliary module.
        """
        of_penalty, target = self.penalty.make_dual(network), self.target
        if not isinstance(target, DualTarget):
            return of_penalty
        if of_penalty is not None:
            raise ValueError(
                "target and penalty: both train an auxiliary module, but only one is"
                " possible. Choose another target or another penalty."
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
        """Creates the view of a batch that these parts read.

        Args:
            network: The online network.
            target_network: The target network.
            batch: The batch.
            burn_in: Number of burn-in steps at the start of each row.
            generator: Generator of the fractions of sampled quantiles.
            **more: Other fields of :class:`View`, including ``gamma`` and
                ``reward_scale``.
        """
        encoded = self.encoding.encode(
            network, target_network, batch, burn_in=burn_in, generator=generator
        )
        parts = self.target, self.weighting
        return View(
            network, target_network, encoded, batch.without_burn_in(), *parts, **more
        )

    def team_loss(self, view: View) -> Tensor:
        """Computes the loss of one update, without RMIX's quantile regression.

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
        # The penalty comes first: it needs all atoms, and the loss reuses them.
        penalty = self.penalty.of(view)
        of_critic = None if view.network.joint_critic is None else critic_loss(view)
        loss = self.loss.loss(view)
        if view.wants_stats:
            self.loss.log_errors(view)
        if of_critic is not None:
            loss = loss + of_critic
        if penalty is None:
            return loss
        # The penalty's weight should mean the same for values and for any number of
        # atoms. So the loss becomes half the squared error, or half the mean over atoms
        # (the loss of atoms is their sum).
        return loss / (2 * self.loss.terms(view)) + penalty
