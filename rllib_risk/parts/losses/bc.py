"""Behaviour cloning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from rllib_risk.parts.losses.base import Loss
from rllib_risk.parts.penalties.per_agent import penalties_of
from rllib_risk.parts.view import View


class Cloning(Loss):
    """Minus the log-likelihood of the data under the softmax of the utilities."""

    uses_targets: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.dataset is None:
            yield "loss: 'bc' imitates the actions of a dataset; set dataset."
        if config.mixer != "none" or config.num_atoms > 1:
            yield (
                "loss: 'bc' learns which actions were taken, and neither a team's value"
                " nor returns; set mixer: none and num_atoms: 1."
            )
        if config.conservative_weight is not None:
            yield (
                "conservative_weight: loss 'bc' is that penalty alone; leave it out."
            )
        errors = config.target, config.td_weighting, config.td_lambda
        if errors != ("plain", "none", 0.0):
            yield (
                "target, td_weighting, td_lambda: are about TD errors, and loss 'bc'"
                " has none; leave them out."
            )

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        loss = view.mean(penalties_of(view))
        if view.wants_stats:
            view.log("conservative_penalty", loss)
        return loss
