"""Base class of conservative penalties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View


class Penalty(Part):
    """A penalty that lowers the values of actions outside the dataset.

    A custom penalty defines :meth:`penalties`. A penalty that needs a model of the
    behaviour policy also defines :meth:`make_dual` and :meth:`dual_loss`.

    Attributes:
        auxiliary_lr: Adam learning rate of the auxiliary module of :meth:`make_dual`.
        auxiliary_block: Number of consecutive updates of the auxiliary module. The same
            number of updates of the values follows.
    """

    @dataclass(frozen=True)
    class Options:
        conservative_weight: float | None = option(
            None,
            "Weight of the conservative penalty (CQL) on actions outside the data. It"
            " is added to half the squared TD error, or to half the mean over the"
            " atoms' losses. 0: only that half. null: no penalty, and the full loss,"
            " summed over atoms.",
            low=0.0,
        )

    options: Any
    auxiliary_lr: ClassVar[float] = 1e-3
    auxiliary_block: ClassVar[int] = 1

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.conservative_weight is None:
            yield without_weight(config.penalty)

    def penalties(self, view: View) -> Tensor:
        """Computes the penalty of every step, without its weight.

        Args:
            view: The batch.

        Returns:
            Penalties ``[B, T, .]``, with gradients of the online network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define penalties().")

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """Creates the penalty's auxiliary module, which is then :attr:`View.dual`.

        Args:
            network: The online network.

        Returns:
            A module, or None if the penalty needs none.
        """
        return None

    def dual_loss(self, view: View) -> Tensor:
        """Computes the loss of the auxiliary module.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dual_loss().")

    def of(self, view: View) -> Tensor | None:
        """Computes the weighted mean penalty.

        Args:
            view: The batch.

        Returns:
            A scalar, 0 if the weight is 0; None if there is no penalty.
        """
        weight = self.options.conservative_weight
        if weight is None:
            return None
        if weight > 0.0:
            return weight * self._mean(view)
        if view.wants_stats:
            with torch.no_grad():
                self._mean(view)
        return view.rewards.new_zeros(())

    def _mean(self, view: View) -> Tensor:
        penalty = view.mean(self.penalties(view))
        if view.wants_stats:
            view.log("conservative_penalty", penalty)
        return penalty


def without_weight(name: str) -> str:
    """Returns the error for a penalty without a weight.

    Args:
        name: Name of the penalty.
    """
    return f"penalty: {name!r} needs a weight. Set conservative_weight."


def refuse_without_values(config: Any) -> Iterator[str]:
    """Yields errors if there is no value of the team that a penalty could lower.

    Args:
        config: A configuration.

    Yields:
        Messages for users.
    """
    if VALUE_PARTS.part("mixer", config).form == "none":
        yield (
            f"penalty: {config.penalty!r} applies to the team's value, but mixer"
            f" {config.mixer!r} has one value per agent. Choose another mixer, or"
            " penalty: per_agent."
        )
    if config.num_atoms > 1:
        yield (
            f"penalty: {config.penalty!r} applies to a value, not to a distribution."
            " Set num_atoms: 1, or penalty: per_agent."
        )
