"""The conservative penalty of actions that a dataset does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.conservative import conservative_penalty
from rllib_risk.ops.targets import mask_utilities
from rllib_risk.parts.base import Part
from rllib_risk.parts.view import View


class Penalty(Part):
    """The conservative penalty (CQL) beside a loss; in every composition."""

    @dataclass(frozen=True)
    class Options:
        conservative_weight: float | None = option(
            None,
            "Weight of the conservative penalty (CQL) of actions that the data do not"
            " have, beside half the TD error, or half its mean over atoms. 0: that half"
            " alone. null: no penalty, and the TD error in full, summed over atoms.",
            low=0.0,
        )
        conservative_on: Literal["quantiles", "mean"] = option(
            "quantiles",
            "Penalty of every atom, and their mean (MA-CQR), or of the mean of the"
            " atoms.",
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        alone = config.conservative_weight is None or config.num_atoms == 1
        if config.conservative_on != "quantiles" and alone:
            yield (
                "conservative_on: says where the penalty of several atoms is taken; set"
                " conservative_weight and num_atoms above 1."
            )

    def of(self, view: View) -> Tensor | None:
        """The penalty with its weight.

        Args:
            view: The batch.

        Returns:
            A scalar, 0 where the weight is 0; None: there is no penalty.
        """
        weight, on = self.options.conservative_weight, self.options.conservative_on
        if weight is None:
            return None
        if weight > 0.0:
            return weight * penalty_of(view, on)
        if view.wants_stats:
            with torch.no_grad():
                penalty_of(view, on)
        return view.rewards.new_zeros(())


def penalty_of(view: View, on: str) -> Tensor:
    """The conservative penalty of all agents.

    Per agent and never over joint actions, as MA-CQR decomposes it (Eldeeb et al.,
    2024): the sum over the agents of a team with one value, the mean over independent
    agents, as their losses are.

    Args:
        view: The batch.
        on: ``quantiles`` or ``mean``.

    Returns:
        A scalar.
    """
    atoms = view.network.atoms(view.online)  # [B, T, N, A, M]
    values = atoms if on == "quantiles" else atoms.mean(dim=-1)
    penalties = conservative_penalty(values, view.actions, view.action_mask)
    if view.network.count_values() == 1:
        penalties = penalties.sum(dim=-1, keepdim=True)
    penalty = view.mean(penalties)  # of [B, T, G]
    if view.wants_stats:
        with torch.no_grad():
            means = atoms.mean(dim=-1)
            best = mask_utilities(means, view.action_mask).amax(dim=-1)
            data = means.gather(-1, view.actions.unsqueeze(-1)).squeeze(-1)
            view.log("conservative_penalty", penalty)
            view.log("q_max_mean", view.mean(best))
            view.log("q_data_mean", view.mean(data))
            view.log("ood_gap", view.mean(best - data))
            view.log("data_agreement", view.mean((data >= best).float()))
    return penalty
