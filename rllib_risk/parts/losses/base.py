"""Base class of losses."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from rllib_risk.parts.base import Part
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.targets.plain import Plain
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import Even


class Loss(Part):
    """The loss that one update of the networks minimizes.

    A custom loss defines :meth:`loss`. The loss of a joint critic and the conservative
    penalty are added to it, if the composition has them.

    Attributes:
        fits_atoms: Whether the loss fits distributions (:attr:`View.atoms`) instead of
            values.
        uses_targets: Whether the loss uses rewards and next values. If not, the target
            network is not updated, and no other loss is added.
        mixes: Whether the loss fits the mixed utilities. If not, the utilities are
            logits of a policy.
        splits: Whether the loss is a mean over learned steps to which each episode (or
            sequence) contributes separately. If not, ``num_learners`` is refused.
    """

    fits_atoms: ClassVar[bool] = False
    uses_targets: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    def loss(self, view: View) -> Tensor:
        """Computes the loss. Use :meth:`View.log` to log statistics.

        Args:
            view: The batch.

        Returns:
            A scalar, with gradients of the online network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss().")

    @torch.no_grad()
    def log_errors(self, view: View) -> None:
        """Logs the TD errors, values and targets that :meth:`loss` computed.

        It is called after :meth:`loss` if the loss uses targets and statistics are
        wanted. It does not overwrite values that the loss has logged.

        Args:
            view: The batch.
        """
        names = ("atoms", "target_atoms") if self.fits_atoms else ("values", "targets")
        if not vars(view).keys() >= set(names):
            return
        values, targets = (getattr(view, name) for name in names)
        if self.fits_atoms:
            values, targets = values.mean(dim=-1), targets.mean(dim=-1)
        errors = targets - values  # [B, T, G]
        numbers = {
            "td_error_abs": errors.abs(),
            "q_taken_mean": values,
            "target_mean": targets,
        }
        for name, number in numbers.items():
            if name not in view.logged:
                view.log(name, view.mean(number))

    def terms(self, view: View) -> int:
        """Number of errors that the loss sums for one value.

        With a conservative penalty, half the mean of these errors is minimized.

        Args:
            view: The batch.
        """
        return 1


def errors_are_plain(config: Any) -> bool:
    """Whether TD errors have the plain target and equal weights.

    Args:
        config: The configuration.
    """
    plain = issubclass(VALUE_PARTS.part("target", config), Plain)
    return plain and issubclass(VALUE_PARTS.part("td_weighting", config), Even)
