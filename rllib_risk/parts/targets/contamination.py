"""The target that is robust to contamination of the transition kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from rllib_risk.ops.robust import contaminated_rewards
from rllib_risk.parts.targets.base import (
    LambdaOptions,
    RobustOptions,
    Target,
    lambda_targets,
    refuse_atoms,
)
from rllib_risk.parts.view import View


class Contamination(Target):
    """Worst-case mean if a fraction ``rho`` of the kernel is replaced arbitrarily.

    ``r + gamma [(1 - rho) V' + rho v_min]``; Qu et al. (ICLR 2026). Termination is an
    ordinary outcome of value 0.
    """

    @dataclass(frozen=True)
    class Options(RobustOptions, LambdaOptions):
        pass

    options: Options
    robust: ClassVar[bool] = True

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from refuse_atoms(config)

    def targets(self, view: View) -> Tensor:
        """See :meth:`Target.targets`."""
        o = self.options
        rewards, gamma = view.rewards, view.gamma
        if o.rho > 0.0:
            v_min = view.reward_scale * o.v_min
            rewards, gamma = contaminated_rewards(
                rewards, gamma, o.rho, v_min, o.robust_over
            )
        return lambda_targets(
            view, rewards, gamma, view.now(o.td_lambda), o.td_lambda_cut
        )
