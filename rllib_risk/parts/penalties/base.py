"""What a conservative penalty is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.parts.base import Part
from rllib_risk.parts.team import TeamNetwork
from rllib_risk.parts.view import View


class Penalty(Part):
    """What pulls the values of actions down that a dataset does not have.

    A penalty of your own defines :meth:`penalties`. One that needs a model of who acted
    in the data also defines :meth:`make_dual` and :meth:`dual_loss`.

    Attributes:
        beside_lr: Learning rate of what :meth:`make_dual` makes (Adam).
        beside_block: Its updates in a row, then as many of the values.
    """

    @dataclass(frozen=True)
    class Options:
        conservative_weight: float | None = option(
            None,
            "Weight of the conservative penalty (CQL) of actions that the data do not"
            " have, beside half the TD error, or half its mean over atoms. 0: that half"
            " alone. null: no penalty, and the TD error in full, summed over atoms.",
            low=0.0,
        )

    options: Any
    beside_lr: ClassVar[float] = 1e-3
    beside_block: ClassVar[int] = 1

    def penalties(self, view: View) -> Tensor:
        """The penalty of every step, without its weight.

        Args:
            view: The batch.

        Returns:
            ``[B, T, .]``, with gradients of the online network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define penalties().")

    def make_dual(self, network: TeamNetwork) -> nn.Module | None:
        """Makes what is learned beside the networks; :attr:`View.dual` is it.

        Args:
            network: The online network.

        Returns:
            A module; None: nothing is.
        """
        return None

    def dual_loss(self, view: View) -> Tensor:
        """What that module minimizes, in one step before every update.

        Args:
            view: The batch.

        Returns:
            A scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define dual_loss().")

    def of(self, view: View) -> Tensor | None:
        """The penalty with its weight.

        Args:
            view: The batch.

        Returns:
            A scalar, 0 where the weight is 0; None: there is no penalty.
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


def refuse_without_values(config: Any, name: str) -> Iterator[str]:
    """Refuses a penalty of the team's value where there is none.

    Args:
        config: A configuration.
        name: The penalty's.

    Yields:
        Messages for users.
    """
    if config.conservative_weight is None:
        yield f"penalty: {name!r} needs a weight; set conservative_weight."
    if config.mixer == "none":
        yield (
            f"penalty: {name!r} is of the team's value, and mixer 'none' has one value"
            " per agent; choose another mixer, or penalty: per_agent."
        )
    if config.num_atoms > 1:
        yield (
            f"penalty: {name!r} is of a value, and not of a distribution; set"
            " num_atoms: 1, or penalty: per_agent."
        )
