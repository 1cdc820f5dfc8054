"""The conservative penalty of sampled joint actions."""

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

# Rotation of one row: the golden ratio's fraction, which spreads points most evenly.
_TURN = 0.6180339887498949


class SampledJoint(Penalty):
    """CQL of the mixed value, with random joint actions for all: QMIX+CQL.

    Formanek et al. (2024), "Dispelling the Mirage of Progress in Offline MARL", after
    their code. Joint actions are drawn for every update, evenly among those that are
    available; in their code others are nearly as likely.
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
        conservative_samples: int = option(
            20,
            "Random joint actions whose values the penalty pulls down, per env step.",
            low=1,
            high=10_000,
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_without_values(config, "sampled_joint")

    def penalties(self, view: View) -> Tensor:
        """See :meth:`Penalty.penalties`; ``[B, T, 1]``."""
        drawn = random_actions(
            view.action_mask, self.options.conservative_samples, view.draws
        )
        # First the action taken, so that all values come out of one pass.
        joints = torch.cat([view.actions.unsqueeze(2), drawn], dim=2)
        values = view.values_of_each(joints).squeeze(-1)  # [B, T, 1 + K]
        return sampled_penalty(values[..., 1:], values[..., 0]).unsqueeze(-1)


def random_actions(
    action_mask: Tensor, number: int, generator: torch.Generator
) -> Tensor:
    """Joint actions, each agent's drawn evenly from those available to it.

    One set of uniform numbers is drawn, and rotated from row to row (Cranley and
    Patterson, 1976): what a step gets does not depend on the steps around it.

    Args:
        action_mask: Nonzero where an action is available, ``[B, T, N, A]``.
        number: ``K``.
        generator: Source of the draws, on the CPU.

    Returns:
        int64 ``[B, T, K, N]``.
    """
    episodes, steps, agents, actions = action_mask.shape
    noise = torch.rand((number, agents, actions), generator=generator)
    turns = (row_numbers(episodes, generator).double() * _TURN).frac().float()
    noise = (noise + turns[:, None, None, None]).frac()  # [B, K, N, A]
    noise = noise.unsqueeze(1).expand(-1, steps, -1, -1, -1).to(action_mask.device)
    legal = (action_mask > 0).unsqueeze(2)
    return torch.where(legal, noise, -1.0).argmax(dim=-1)
