"""Behaviour cloning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from rllib_risk.parts.losses.base import Loss, errors_are_plain
from rllib_risk.parts.penalties.per_agent import penalties_of
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View


class Cloning(Loss):
    """Behaviour cloning: negative log-likelihood of the dataset's actions.

    The policy is the softmax of the utilities.
    """

    uses_targets: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.dataset is None:
            yield (
                f"loss: {config.loss!r} imitates the actions of a dataset. Set dataset."
            )
        if VALUE_PARTS.part("mixer", config).form != "none" or config.num_atoms > 1:
            yield (
                f"loss: {config.loss!r} learns actions, not a team's value or returns."
                " Set mixer: none and num_atoms: 1."
            )
        if config.conservative_weight is not None:
            yield (
                f"conservative_weight: loss {config.loss!r} consists of this penalty"
                " only. Leave conservative_weight out."
            )
        if not errors_are_plain(config) or config.td_lambda != 0.0:
            yield (
                "target, td_weighting, td_lambda: apply to TD errors, and loss"
                f" {config.loss!r} has none. Leave them out."
            )

    def loss(self, view: View) -> Tensor:
        """See :meth:`Loss.loss`."""
        loss = view.mean(penalties_of(view))
        if view.wants_stats:
            view.log("conservative_penalty", loss)
        return loss
