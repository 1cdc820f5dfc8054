"""The conservative penalty of each agent's own values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.conservative import conservative_penalty
from rllib_risk.parts.penalties.base import Penalty
from rllib_risk.parts.view import View


class PerAgent(Penalty):
    """CQL (Kumar et al., 2020) of each agent's own values, never of joint actions.

    The sum over the agents of a team with one value, as MA-CQR decomposes it (Eldeeb et
    al., 2024); the mean over independent agents, as their losses are: IQL+CQL of
    Formanek et al. (2024).
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
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

    def penalties(self, view: View) -> Tensor:
        """See :meth:`Penalty.penalties`."""
        return penalties_of(view, self.options.conservative_on)


def penalties_of(view: View, on: str = "quantiles") -> Tensor:
    """The conservative penalty of every step.

    Args:
        view: The batch.
        on: ``quantiles`` or ``mean``.

    Returns:
        ``[B, T, G]``.
    """
    atoms = view.network.atoms(view.online)  # [B, T, N, A, M]
    values = atoms if on == "quantiles" else atoms.mean(dim=-1)
    penalties = conservative_penalty(values, view.actions, view.action_mask)
    if view.network.count_values() == 1:
        return penalties.sum(dim=-1, keepdim=True)
    return penalties
