"""The target of nested CVaR for losses that fit distributions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from torch import Tensor

from rllib_risk.parts.objectives.reading import fits_distributions
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.base import Target
from rllib_risk.parts.view import View


class NestedCvarOfAtoms(Target):
    """Reward plus CVaR of the next atoms, for objective ``nested``.

    All target atoms of a step are ``x = r + gamma CVaR_alpha[Z^-(s', u*)]``. Quantile
    regression then learns the distribution of one step's outcome ``x``, and CVaR of
    these atoms is ``Q(s, u) = CVaR_alpha[r + gamma max_u' Q(s', u')]``. No outcome is
    weighted by ``1/alpha``, and there is no dual variable. The level is that of
    ``risk_measure: cvar``, which also chooses the actions. The Huber threshold of the
    loss decides how much outcomes count that are rarer than an atom; see
    ``docs/risk.md``.
    """

    nested: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if not fits_distributions(config):
            yield (
                f"target: {config.target!r} is CVaR of learned atoms, but loss"
                f" {config.loss!r} fits no distribution. Set loss: quantile, or target:"
                " cvar."
            )
        if VALUE_PARTS.part("risk_measure", config).form != "cvar":
            yield (
                f"risk_measure: target {config.target!r} is CVaR, and the actions must"
                f" be greedy for CVaR too, not for {config.risk_measure!r}. Set"
                " risk_measure: cvar."
            )
        if VALUE_PARTS.part("risk_mode", config).predicted:
            yield (
                "risk_mode: nested CVaR has one level for the whole team. Set"
                " risk_mode: static."
            )
        if VALUE_PARTS.part("quantiles", config).samples:
            yield (
                f"quantiles: target {config.target!r} needs atoms at fixed fractions."
                " Set quantiles: fixed."
            )

    def target_atoms(self, view: View, next_atoms: Tensor) -> Tensor:
        """See :meth:`Target.target_atoms`."""
        values = view.target_network.risk(next_atoms)  # [B, T, G]
        outcomes = view.rewards + view.discount * values
        return outcomes.unsqueeze(-1).expand_as(next_atoms)
