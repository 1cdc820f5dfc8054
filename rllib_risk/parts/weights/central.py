"""CW-QMIX's weights, which ask a joint critic what is best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rllib_risk.ops.hysteresis import central_weights
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import LesserWeight


class CentrallyWeighted(LesserWeight):
    """What is neither the critic's best joint action nor above it weighs less.

    CW-QMIX: Rashid et al., "Weighted QMIX" (NeurIPS 2020), Eq. 9, as released.
    """

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.joint_critic == "none":
            yield (
                f"td_weighting: {config.td_weighting!r} asks which joint action the"
                " critic thinks best; set joint_critic: wqmix."
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
