"""What a loss is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rllib_risk.parts.base import Part
from rllib_risk.parts.view import View


class Loss(Part):
    """What one update of the networks minimizes.

    A loss of your own defines :meth:`loss`. A joint critic's own loss and the
    conservative penalty are added to it, where there are any.

    Attributes:
        fits_atoms: Whether it fits distributions (:attr:`View.atoms`), not values.
        uses_targets: Whether it looks at rewards and at what follows. If not, there is
            no target network to move, and nothing is added to it.
        mixes: Whether it fits what the mixer makes of the agents' utilities. If not,
            these are logits of a policy.
        splits: Whether it is a mean over learned steps to which each episode (or
            sequence) contributes by itself. If not, `num_learners` is refused.
    """

    fits_atoms: ClassVar[bool] = False
    uses_targets: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    def loss(self, view: View) -> Tensor:
        """The loss; what is to be logged, it gives to :meth:`View.log`.

        Args:
            view: The batch.

        Returns:
            A scalar, with gradients of the online network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss().")

    @torch.no_grad()
    def log_errors(self, view: View) -> None:
        """Logs the TD errors, values and targets that :meth:`loss` has asked for.

        Called after :meth:`loss`, where it uses targets and statistics are wanted. What
        the loss has logged under one of these names stays.

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
        """How many squared errors it adds up for one value; half their mean goes with
        a conservative penalty.

        Args:
            view: The batch.
        """
        return 1
