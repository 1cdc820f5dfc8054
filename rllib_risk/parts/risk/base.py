"""Risk measures as network parts, which map return atoms to one utility per action.

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
from rllib_risk.parts.base import Choice, NoOptions, Part

if TYPE_CHECKING:
    from rllib_risk.parts.risk.levels import RiskLevel


# Methods of a measure that must give the same result as its `one_step`.
SAME_AS_STEP = ("forward", "of_all_actions", "of_samples")


@dataclass(frozen=True)
class OwnOptions(NoOptions):
    """Options of a custom risk measure that declares none."""

    risk_kwargs: dict = option(
        {},
        "Arguments of a custom risk measure that declares no Options.",
        fixed=True,
    )


# Methods that determine which measure a class is.
_FORMULAS = frozenset({"forward", "distort", "of_samples", "rows", "at_level"})


class RiskMeasure(Part, nn.Module):
    """Base class of risk measures. A custom measure overrides :meth:`forward`.

    For sampled quantiles it also overrides :meth:`distort`. It overrides
    :meth:`of_samples` if the measure is not the mean of the quantiles at distorted
    fractions.

    Attributes:
        num_atoms: ``M``.
        levels: The risk levels that can be reported, as floats.
        uses_level: Whether the measure has a risk level. If so, ``__init__`` gets a
            :class:`~rllib_risk.parts.risk.levels.RiskLevel` after ``num_atoms``.
        form: Which measure of :mod:`rllib_risk.parts.rigm` it is; ``own`` if none.
    """

    Options: ClassVar[type] = OwnOptions

    levels: tuple[float, ...] = (1.0,)
    uses_level: bool = False
    form: ClassVar[str] = "own"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Sets :attr:`form` to ``own`` if a subclass changes only the formula."""
        super().__init_subclass__(**kwargs)
        if not _FORMULAS.isdisjoint(vars(cls)) and "form" not in vars(cls):
            cls.form = "own"

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
        """See :meth:`Part.keywords`. A class without Options gets ``risk_kwargs``."""
        if cls.Options is OwnOptions:
            return dict(options.risk_kwargs)
        return {"options": options}

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if config.num_atoms == 1:
            yield (
                f"risk_measure: {config.risk_measure!r} of a single atom is that atom."
                " Set num_atoms above 1."
            )

    def forward(self, atoms: Tensor, level_logits: Tensor | None = None) -> Tensor:
        """Computes the utility of actions from their atoms, with gradients.

        Args:
            atoms: Equally likely atoms in any order, ``[..., M]``.
            level_logits: Logits of the predicted risk level, ``[..., K]``. None if no
                level is predicted.

        Returns:
            Utilities ``[...]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def one_step(self, xp: Namespace, sampled: bool = False) -> Step:
        """Builds the acting step; see :mod:`rllib_risk.networks.arrays`.

        Args:
            xp: Array namespace, :data:`.arrays.TORCH` or :data:`.arrays.NUMPY`.
            sampled: Whether atoms are quantiles at fractions from :meth:`distort`.

        Returns:
            A function from atoms ``[..., A, M]``, level logits ``[..., K]`` and the
            index of the largest logit ``[...]`` to utilities ``[..., A]``. Logits and
            index are both None if no level is predicted.
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
        """Computes utilities of all actions without gradients, to choose actions.

        Args:
            atoms: Atoms ``[..., A, M]``.
            level_logits: Level logits, shared by all actions, ``[..., K]``, or None.

        Returns:
            Utilities ``[..., A]``.
        """
        if level_logits is not None:
            shape = (*atoms.shape[:-1], level_logits.shape[-1])
            level_logits = level_logits.unsqueeze(-2).expand(shape)  # [..., A, K]
        return self(atoms, level_logits)

    def distort(self, fractions: Tensor) -> Tensor:
        """Maps uniform fractions to the fractions at which quantiles are computed.

        Args:
            fractions: Fractions drawn uniformly from [0, 1], any shape.

        Returns:
            Distorted fractions of the same shape.

        Raises:
            ValueError: If the measure has no map of fractions.
        """
        raise ValueError(
            f"The risk measure {type(self).__name__} has no map of fractions (no"
            " distort()), so it cannot be used with sampled quantiles. Define distort()"
            " or set quantiles: fixed."
        )

    def of_samples(self, atoms: Tensor) -> Tensor:
        """Computes utilities from quantiles at fractions from :meth:`distort`.

        Args:
            atoms: Quantiles ``[..., M]``.

        Returns:
            Utilities ``[...]``.
        """
        return atoms.mean(dim=-1)

    def set_level(self, alpha: float) -> None:
        """Sets a static risk level. A measure without a level ignores it.

        Args:
            alpha: The risk level, in (0, 1].
        """


@dataclass(frozen=True)
class ParameterOptions:
    """The options of measures with a parameter."""

    risk_parameter: float | None = option(
        None,
        "Parameter of risk measures wang, cpw, power and mean_variance; null: -0.75,"
        " 0.71, -2 and 0.1.",
    )


def make_risk(choice: Choice, num_atoms: int, level: RiskLevel) -> RiskMeasure:
    """Creates the risk measure that a configuration names.

    Args:
        choice: The measure and its options.
        num_atoms: ``M``.
        level: Source of the risk level, for measures that have one.

    Returns:
        The measure.

    Raises:
        ValueError: If an option is out of range, or a custom measure does not take the
            arguments or returns a wrong shape.
    """
    arguments: dict[str, Any] = {"num_atoms": num_atoms}
    if choice.part.uses_level:
        arguments["level"] = level
    risk: RiskMeasure = choice.make(**arguments)
    if choice.is_own and not level.predicted:
        utilities = risk.of_all_actions(torch.zeros(2, 3, num_atoms))
        choice.check_shape(utilities, (2, 3))
    return risk
