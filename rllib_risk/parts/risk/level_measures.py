"""CVaR and VaR: measures with a risk level.

Letters: ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.risk import cvar_weights, simple_level, var_weights
from rllib_risk.parts.base import NoOptions
from rllib_risk.parts.objectives.reading import uses_alpha
from rllib_risk.parts.risk.levels import RiskLevel, StaticLevel
from rllib_risk.parts.risk.sorted_atoms import SortedAtoms
from rllib_risk.parts.slots import VALUE_PARTS


class LevelMeasure(SortedAtoms):
    """A weighted sum of the sorted atoms, at a static or a predicted risk level."""

    uses_level = True

    def __init__(
        self, num_atoms: int, level: RiskLevel | None = None, options: Any = None
    ) -> None:
        """Initializes the measure.

        Args:
            num_atoms: ``M``.
            level: Source of the risk level. None: level 1.
            options: See :class:`~rllib_risk.parts.base.Part`.

        Raises:
            ValueError: If a level is out of range.
        """
        options = self.Options() if options is None else options
        level = StaticLevel() if level is None else level
        exact = [simple_level(one) for one in level.levels]
        super().__init__(self.rows(exact, num_atoms, options), options)
        self.straight_through = level.straight_through
        self.levels = tuple(float(one) for one in exact)
        self._predicted = level.predicted

    @classmethod
    def rows(cls, levels: Sequence[Fraction], num_atoms: int, options: Any) -> Tensor:
        """Computes the weights of the sorted atoms at each level.

        Args:
            levels: ``K`` risk levels.
            num_atoms: ``M``.
            options: The measure's options.

        Returns:
            Weights ``[K, M]``.
        """
        raise NotImplementedError(f"{cls.__name__} must define rows().")

    @torch.no_grad()
    def set_level(self, alpha: float) -> None:
        """See :meth:`~.base.RiskMeasure.set_level`. Predicted levels do not change.

        The weights change in place, so actors that hold them also use the new level.
        """
        level = simple_level(alpha)
        if self._predicted or self.levels == (float(level),):
            return
        self.weights.copy_(self.rows([level], self.num_atoms, self.options))
        self.levels = (float(level),)

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`~.base.RiskMeasure.distort`. Uses the static risk level.

        Args:
            fractions: Fractions in [0, 1], any shape.

        Returns:
            Distorted fractions of the same shape.

        Raises:
            ValueError: If the level is predicted.
        """
        if self._predicted:
            raise ValueError(
                "Sampled quantiles need a static risk level: set risk_mode: static."
            )
        return self.at_level(fractions, self.levels[0])

    def at_level(self, fractions: Tensor, level: float) -> Tensor:
        """Distorts fractions for a given risk level; see :meth:`distort`.

        Args:
            fractions: Fractions in [0, 1], any shape.
            level: Risk level in (0, 1].

        Returns:
            Distorted fractions of the same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define at_level().")


class Cvar(LevelMeasure):
    """Mean of the lowest atoms: RMIX (Qiu et al., NeurIPS 2021), Eq. 2 to 6."""

    form: ClassVar[str] = "cvar"

    @dataclass(frozen=True)
    class Options:
        cvar_norm: Literal["count", "eq2_raw", "code_offby1"] = option(
            "count",
            "Divisor of the sum of the kept atoms in CVaR: their number (count), M as"
            " printed in the paper's Eq. 2 (eq2_raw), or the released code's divisor"
            " (code_offby1).",
        )
        cvar_mode: Literal["ceil", "ceil_float32", "exact"] = option(
            "ceil",
            "Number of kept atoms in CVaR: ceil(alpha M) (ceil), the same in the"
            " released code's float32 arithmetic, which keeps 31 of 100 at alpha 0.3"
            " (ceil_float32), or exactly alpha M with a fractional last atom (exact).",
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from super().refusals(config)
        forms = config.cvar_mode, config.cvar_norm
        if config.cvar_mode == "exact" and config.cvar_norm != "count":
            yield "cvar_mode: 'exact' needs cvar_norm 'count'. Set cvar_norm: count."
        sampled = VALUE_PARTS.part("quantiles", config).samples
        if forms != ("ceil", "count") and sampled:
            yield (
                "cvar_norm, cvar_mode: apply to fixed atoms only. Leave them at count"
                " and ceil, or set quantiles: fixed."
            )

    @classmethod
    def rows(cls, levels: Sequence[Fraction], num_atoms: int, options: Any) -> Tensor:
        """See :meth:`LevelMeasure.rows`."""
        norm, mode = options.cvar_norm, options.cvar_mode
        return cvar_weights(levels, num_atoms, norm=norm, mode=mode)

    def at_level(self, fractions: Tensor, level: float) -> Tensor:
        """See :meth:`LevelMeasure.at_level`: ``alpha tau``.

        Raises:
            ValueError: If the measure is not normalised.
        """
        if self.options.cvar_norm != "count":
            raise ValueError(
                "Sampled quantiles need cvar_norm 'count': set cvar_norm: count."
            )
        return level * fractions


class Var(LevelMeasure):
    """Value at risk (VaR): the quantile at the risk level."""

    Options = NoOptions
    form: ClassVar[str] = "var"

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from super().refusals(config)
        if uses_alpha(config) and config.alpha == 1.0:
            yield "alpha: at level 1, var is the highest atom. Set alpha below 1."

    @classmethod
    def rows(cls, levels: Sequence[Fraction], num_atoms: int, options: Any) -> Tensor:
        """See :meth:`LevelMeasure.rows`."""
        return var_weights(levels, num_atoms)

    def at_level(self, fractions: Tensor, level: float) -> Tensor:
        """See :meth:`LevelMeasure.at_level`: the level itself."""
        return torch.full_like(fractions, level)
