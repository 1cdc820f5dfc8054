"""CW-QMIX's weights, which depend on the joint critic's best joint action."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rllib_risk.ops.hysteresis import central_weights
from rllib_risk.parts.critics.base import NoCritic
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import LesserWeight


class CentrallyWeighted(LesserWeight):
    """CW-QMIX's weights: Rashid et al., "Weighted QMIX" (NeurIPS 2020), Eq. 9.

    As in the released code, an error has the smaller weight if the joint action is not
    the critic's best and the target is not above the critic's best value.
    """

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if issubclass(VALUE_PARTS.part("joint_critic", config), NoCritic):
            yield (
                f"td_weighting: {config.td_weighting!r} needs the best joint action of"
                " a joint critic. Set joint_critic: wqmix."
            )

    @torch.no_grad()
    def weights(self, errors: Tensor, view: View) -> Tensor:
        """See :meth:`TDWeighting.weights`."""
        best = view.target_network.joint_values_of(
            view.encoded.target, view.greedy, view.state
        )
        return central_weights(
            view.actions, view.greedy, view.targets, best, self.lesser(view)
        )
