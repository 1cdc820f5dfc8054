"""The target that is robust to total variation of the transition kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.data.sizes import TeamSizes
from rllib_risk.networks.dual import DualNetwork
from rllib_risk.ops.robust import dual_losses, worst_tv
from rllib_risk.parts.targets.base import (
    DualTarget,
    RobustOptions,
    lambda_targets,
    refuse_atoms,
)
from rllib_risk.parts.view import View


class TotalVariation(DualTarget):
    """Worst-case mean over all kernels within ``rho`` in total variation.

    ``r + gamma [(1 - rho) eta - (eta - V')+ + rho v_min]`` with the dual variable
    ``eta(s, u)``; Qu et al. (ICLR 2026). Termination is an ordinary outcome of value 0.
    A set of radius 0 contains only the nominal kernel. A dual variable could then only
    add errors, so there is none.
    """

    @dataclass(frozen=True)
    class Options(DualTarget.Options, RobustOptions):
        dual_loss: Literal["pinball", "squared_released"] = option(
            "pinball",
            "Loss of target tv's dual variable: quantile regression (pinball), or the"
            " squared dual of the authors' code, whose minimum is not a quantile"
            " (squared_released).",
        )
        dual_bounds: list | None = option(
            None,
            "Bounds [low, high] of target tv's dual variable, in units of unscaled"
            " rewards; null: no bounds.",
        )

    options: Options
    robust: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_atoms(config)
        bounds = config.dual_bounds
        if bounds is not None and not _is_interval(bounds):
            yield (
                f"dual_bounds: must be two ascending numbers [low, high], not"
                f" {bounds!r}."
            )

    def make_dual(self, sizes: TeamSizes, num_values: int) -> nn.Module | None:
        """See :meth:`DualTarget.make_dual`."""
        return DualNetwork(sizes, num_values) if self.options.rho > 0.0 else None

    def targets(self, view: View) -> Tensor:
        """See :meth:`Target.targets`."""
        o = self.options
        if o.rho == 0.0:
            return lambda_targets(view, view.rewards, view.gamma, 0.0, "none")
        eta = cast("nn.Module", view.dual)(view.state, view.actions)
        if o.dual_bounds is not None:
            eta = eta.clamp(*(view.reward_scale * bound for bound in o.dual_bounds))
        v_min = view.reward_scale * o.v_min
        worst = worst_tv(self._outcomes(view), eta, o.rho, v_min)
        if o.robust_over == "transition":
            return worst
        return view.rewards + view.gamma * worst

    def _outcomes(self, view: View) -> Tensor:
        """Uncertain outcomes: the next value, or reward plus discounted next value."""
        values = (1.0 - view.terminateds) * view.next_values
        if self.options.robust_over == "transition":
            return view.rewards + view.gamma * values
        return values

    def dual_loss(self, view: View) -> Tensor:
        """See :meth:`DualTarget.dual_loss`."""
        o = self.options
        with torch.no_grad():
            outcomes = torch.where(view.mask > 0, self._outcomes(view), 0.0)
        eta = cast("nn.Module", view.dual)(view.state, view.actions)
        loss = view.mean(dual_losses(outcomes, eta, o.rho, o.dual_loss))
        with torch.no_grad():
            # Coverage near 1 - rho: the dual variable is close to that quantile.
            below = (outcomes <= eta).to(eta)
            view.log("dual_loss", loss)
            view.log("dual_mean", view.mean(eta))
            view.log("dual_coverage", view.mean(below))
        return loss


def _is_interval(bounds: list) -> bool:
    numbers = [b for b in bounds if isinstance(b, (int, float)) and math.isfinite(b)]
    return len(bounds) == len(numbers) == 2 and numbers[0] < numbers[1]
