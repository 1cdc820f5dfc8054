"""What a loss is."""

from __future__ import annotations

from typing import ClassVar

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
    """

    fits_atoms: ClassVar[bool] = False
    uses_targets: ClassVar[bool] = True

    def loss(self, view: View) -> Tensor:
        """The loss; what is to be logged, it gives to :meth:`View.log`.

        Args:
            view: The batch.

        Returns:
            A scalar, with gradients of the online network.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss().")

    def terms(self, view: View) -> int:
        """How many squared errors it adds up for one value; half their mean goes with
        a conservative penalty.

        Args:
            view: The batch.
        """
        return 1
