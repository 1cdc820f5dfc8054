"""The conservative penalty on sampled joint actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.conservative import sampled_penalty
from rllib_risk.parts.draws import row_numbers
from rllib_risk.parts.penalties.base import Penalty, refuse_without_values
from rllib_risk.parts.view import View

# Rotation per row. The fractional part of the golden ratio spreads points most evenly.
_ROTATION = 0.6180339887498949


class SampledJoint(Penalty):
    """CQL on the mixed value, with random joint actions: QMIX+CQL.

    Formanek et al. (2024), "Dispelling the Mirage of Progress in Offline MARL", as in
    their code. Joint actions are drawn for every update, uniformly from the available
    actions. In their code, unavailable actions are nearly as likely.
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
        conservative_samples: int = option(
            20,
            "Number of random joint actions per env step in the penalty.",
            low=1,
            high=10_000,
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_without_values(config)

    def penalties(self, view: View) -> Tensor:
        """See :meth:`Penalty.penalties`; ``[B, T, 1]``."""
        drawn = random_actions(
            view.action_mask, self.options.conservative_samples, view.draws
        )
        # The action taken is row 0, so one pass computes all values.
        joints = torch.cat([view.actions.unsqueeze(2), drawn], dim=2)
        values = view.values_of_each(joints).squeeze(-1)  # [B, T, 1 + K]
        return sampled_penalty(values[..., 1:], values[..., 0]).unsqueeze(-1)


def random_actions(
    action_mask: Tensor, number: int, generator: torch.Generator
) -> Tensor:
    """Draws joint actions uniformly from the actions available to each agent.

    One set of uniform numbers is drawn and rotated from row to row (Cranley and
    Patterson, 1976). The actions of a step therefore do not depend on other steps.

    Args:
        action_mask: Nonzero where an action is available, ``[B, T, N, A]``.
        number: Number of joint actions ``K``.
        generator: Random generator on the CPU.

    Returns:
        Joint actions, int64 ``[B, T, K, N]``.
    """
    episodes, steps, agents, actions = action_mask.shape
    noise = torch.rand((number, agents, actions), generator=generator)
    rotations = (row_numbers(episodes, generator).double() * _ROTATION).frac().float()
    noise = (noise + rotations[:, None, None, None]).frac()  # [B, K, N, A]
    noise = noise.unsqueeze(1).expand(-1, steps, -1, -1, -1).to(action_mask.device)
    legal = (action_mask > 0).unsqueeze(2)
    return torch.where(legal, noise, -1.0).argmax(dim=-1)
