"""Risk measures as parts of the network: from return atoms to one utility per action.

Letters: ``A`` actions, ``M`` atoms (or sampled quantiles), ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from rllib_risk.config.options import option
from rllib_risk.networks.arrays import Namespace, Rows, Step
from rllib_risk.parts.base import Choice, Part

if TYPE_CHECKING:
    from rllib_risk.parts.risk.levels import RiskLevel


@dataclass(frozen=True)
class OwnOptions:
    """What a class without Options of its own takes."""

    risk_kwargs: dict = option(
        {},
        "Arguments of a risk measure of your own that declares no Options.",
        fixed=True,
    )


class RiskMeasure(Part, nn.Module):
    """What a risk measure must do. To write one of your own, override :meth:`forward`.

    For sampled quantiles override :meth:`distort` too, and :meth:`of_samples` where the
    measure is not the mean of the quantiles at distorted fractions.

    Attributes:
        num_atoms: ``M``.
        levels: The risk levels that can be reported, as floats.
        uses_level: Whether the measure has a risk level. Its class is then called with
            a :class:`~rllib_risk.parts.risk.levels.RiskLevel` after the atoms.
    """

    Options: ClassVar[type] = OwnOptions

    levels: tuple[float, ...] = (1.0,)
    uses_level: bool = False

    def __init__(self, num_atoms: int, options: Any = None) -> None:
        """Initializes the measure.

        Args:
            num_atoms: ``M``.
            options: See :class:`~rllib_risk.parts.base.Part`.
        """
        super().__init__(options)
        self.num_atoms = num_atoms

    @classmethod
    def keywords(cls, options: Any) -> dict[str, Any]:
        """See Part; a class without Options of its own gets ``risk_kwargs``."""
        if cls.Options is OwnOptions:
            return dict(options.risk_kwargs)
        return {"options": options}

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        if config.num_atoms == 1:
            yield (
                f"risk_measure: {config.risk_measure!r} of a single atom is that atom;"
                " set num_atoms above 1."
            )

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """Utility of the action whose atoms are given, with gradients.

        Args:
            atoms: Equally likely, in any order, ``[..., M]``.
            level_logits: Logits of the predicted risk level, ``[..., K]``; None where
                none is predicted.

        Returns:
            ``[...]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def one_step(self, xp: Namespace, sampled: bool = False) -> Step:
        """Utilities in acting; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Operations on tensors, or on arrays.
            sampled: Whether atoms are quantiles at fractions that :meth:`distort` gave.

        Returns:
            From atoms ``[..., A, M]``, level logits ``[..., K]`` and the index of the
            greatest of them ``[...]``, or None twice, to utilities ``[..., A]``.
        """
        if sampled and type(self).of_samples is RiskMeasure.of_samples:
            return lambda atoms, logits, index: xp.mean(atoms)
        if sampled:
            of_samples = xp.of_torch(self.of_samples)
            return lambda atoms, logits, index: of_samples(atoms)
        utilities = xp.without_own_step(self, self.of_all_actions)

        def step(atoms: Rows, logits: Rows | None, index: Rows | None) -> Rows:
            return utilities(atoms) if logits is None else utilities(atoms, logits)

        return step

    @torch.no_grad()
    def of_all_actions(
        self, atoms: Tensor, level_logits: Tensor | None = None
    ) -> Tensor:
        """Utilities of all actions, without gradients: for acting and for the argmax.

        Args:
            atoms: ``[..., A, M]``.
            level_logits: The same for all actions, ``[..., K]``, or None.

        Returns:
            ``[..., A]``.
        """
        if level_logits is not None:
            shape = (*atoms.shape[:-1], level_logits.shape[-1])
            level_logits = level_logits.unsqueeze(-2).expand(shape)  # [..., A, K]
        return self(atoms, level_logits)

    def distort(self, fractions: Tensor) -> Tensor:
        """Where to ask for quantiles, given fractions drawn uniformly from [0, 1].

        Args:
            fractions: Any shape.

        Returns:
            The same shape.

        Raises:
            ValueError: If the measure has no map of fractions.
        """
        raise ValueError(
            f"The risk measure {type(self).__name__} has no map of fractions (no"
            " distort()), so it cannot be used with sampled quantiles."
        )

    def of_samples(self, atoms: Tensor) -> Tensor:
        """Utility from quantiles at fractions that :meth:`distort` gave.

        Args:
            atoms: ``[..., M]``.

        Returns:
            ``[...]``.
        """
        return atoms.mean(dim=-1)

    def set_level(self, alpha: float) -> None:
        """Moves a static risk level; nothing happens where the measure has none.

        Args:
            alpha: The level, in (0, 1].
        """


@dataclass(frozen=True)
class ParameterOptions:
    """The options of measures with a parameter."""

    risk_parameter: float | None = option(
        None,
        "Parameter of wang, cpw, power and mean_variance; null: -0.75, 0.71, -2, 0.1.",
    )


def make_risk(choice: Choice, num_atoms: int, level: RiskLevel) -> RiskMeasure:
    """The risk measure that a configuration names.

    Args:
        choice: The measure and its options.
        num_atoms: ``M``.
        level: Where the level of a measure that has one comes from.

    Returns:
        The measure.

    Raises:
        ValueError: If one of its options is out of range, or a measure of the user's
            own does not take the arguments or give the shape that it must.
    """
    arguments: dict[str, Any] = {"num_atoms": num_atoms}
    if choice.part.uses_level:
        arguments["level"] = level
    risk: RiskMeasure = choice.make(**arguments)
    if choice.is_own and not level.predicted:
        utilities = risk.of_all_actions(torch.zeros(2, 3, num_atoms))
        choice.check_shape(utilities, (2, 3))
    return risk
