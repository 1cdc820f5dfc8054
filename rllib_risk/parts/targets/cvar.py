"""The target of nested CVaR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.dual import FactoredDualNetwork
from rllib_risk.ops.robust import dual_losses, worst_tv
from rllib_risk.parts.objectives.base import LevelOptions
from rllib_risk.parts.objectives.reading import fits_distributions
from rllib_risk.parts.targets.base import DualTarget
from rllib_risk.parts.view import View


class NestedCvar(DualTarget):
    """CVaR of reward and next value jointly, for objective ``nested``.

    ``CVaR_alpha(X) = max_eta {eta - E[(eta - X)+] / alpha}`` of ``X = r + gamma V'``
    (Rockafellar and Uryasev, 2000). The dual variable ``eta(s, u)`` is the
    ``alpha``-quantile of ``X``. This CVaR is the worst-case mean over all kernels whose
    density is at most ``1/alpha`` times the nominal one. Termination is an ordinary
    outcome of value 0. At level 1 the target is the mean, and there is no dual
    variable.
    """

    @dataclass(frozen=True)
    class Options(LevelOptions, DualTarget.Options):
        dual_kappa: float = option(
            0.0,
            "Errors of the dual variable up to this size count squared (quantile Huber"
            " loss); 0: the quantile loss.",
            low=0.0,
            high=1e6,
            unit="scaled return",
        )

    options: Options
    nested: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if fits_distributions(config):
            yield (
                f"target: {config.target!r} learns values, but loss {config.loss!r}"
                " fits distributions. Leave target out: objective: nested then sets"
                " target: cvar_atoms."
            )

    def make_dual(self, sizes: TeamSizes, num_values: int) -> nn.Module | None:
        """See :meth:`DualTarget.make_dual`."""
        if self.options.alpha == 1.0:
            return None
        return FactoredDualNetwork(sizes, num_values)

    def targets(self, view: View) -> Tensor:
        """See :meth:`Target.targets`."""
        alpha = view.now(self.options.alpha)
        if alpha == 1.0:
            return _outcomes(view)
        eta = cast("nn.Module", view.dual)(view.state, view.actions)
        return worst_tv(_outcomes(view), eta, 1.0 - alpha, v_min=0.0) / alpha

    def dual_loss(self, view: View) -> Tensor:
        """See :meth:`DualTarget.dual_loss`."""
        alpha = view.now(self.options.alpha)
        with torch.no_grad():
            outcomes = torch.where(view.mask > 0, _outcomes(view), 0.0)
        eta = cast("nn.Module", view.dual)(view.state, view.actions)
        kappa = self.options.dual_kappa
        loss = view.mean(dual_losses(outcomes, eta, 1.0 - alpha, "pinball", kappa))
        with torch.no_grad():
            # Coverage near alpha: the dual variable is close to the alpha-quantile.
            below = (outcomes <= eta).to(eta)
            view.log("dual_loss", loss)
            view.log("dual_mean", view.mean(eta))
            view.log("dual_coverage", view.mean(below))
        return loss


def _outcomes(view: View) -> Tensor:
    """Reward plus discounted next value of each step, ``[B, T, G]``."""
    return view.rewards + view.discount * view.next_values
