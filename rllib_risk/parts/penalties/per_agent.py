"""The conservative penalty on each agent's own values."""

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
    """CQL (Kumar et al., 2020) on each agent's own values, not on joint actions.

    For a team with one value it is the sum over agents, as in MA-CQR (Eldeeb et al.,
    2024). For independent agents it is the mean over agents, like their losses: IQL+CQL
    of Formanek et al. (2024).
    """

    @dataclass(frozen=True)
    class Options(Penalty.Options):
        conservative_on: Literal["quantiles", "mean"] = option(
            "quantiles",
            "What the penalty applies to: every atom, with the mean over atoms"
            " (quantiles, MA-CQR), or the mean of the atoms (mean).",
        )

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        # The default of configurations without a penalty: it needs no weight.
        unused = config.conservative_weight is None or config.num_atoms == 1
        if config.conservative_on != "quantiles" and unused:
            yield (
                "conservative_on: applies only to a penalty with several atoms. Set"
                " conservative_weight, and num_atoms above 1."
            )

    def penalties(self, view: View) -> Tensor:
        """See :meth:`Penalty.penalties`."""
        return penalties_of(view, self.options.conservative_on)


def penalties_of(view: View, on: str = "quantiles") -> Tensor:
    """Computes the conservative penalty of every step.

    Args:
        view: The batch.
        on: ``quantiles`` or ``mean``.

    Returns:
        Penalties ``[B, T, G]``.
    """
    atoms = view.network.atoms(view.online)  # [B, T, N, A, M]
    values = atoms if on == "quantiles" else atoms.mean(dim=-1)
    penalties = conservative_penalty(values, view.actions, view.action_mask)
    if view.network.count_values() == 1:
        return penalties.sum(dim=-1, keepdim=True)
    return penalties
