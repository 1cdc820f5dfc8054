"""The plain Bellman target."""

from __future__ import annotations

from torch import Tensor

from rllib_risk.parts.targets.base import LambdaOptions, Target, lambda_targets
from rllib_risk.parts.view import View


class Plain(Target):
    """The target ``r + gamma V^-(s', u*)``, with TD(lambda).

    RMIX Eq. 5 and 6, and QMIX Eq. 6 for plain values.
    """

    Options = LambdaOptions
    options: LambdaOptions

    def targets(self, view: View) -> Tensor:
        """See :meth:`Target.targets`."""
        o = self.options
        return lambda_targets(
            view, view.rewards, view.gamma, view.now(o.td_lambda), o.td_lambda_cut
        )
