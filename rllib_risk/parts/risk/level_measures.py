"""CVaR and VaR: measures with a risk level.

Letters: ``M`` atoms, ``K`` risk levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from rllib_risk.config.options import option
from rllib_risk.ops.risk import cvar_weights, simple_level, var_weights
from rllib_risk.parts.base import NoOptions
from rllib_risk.parts.risk.levels import RiskLevel, StaticLevel
from rllib_risk.parts.risk.sorted_atoms import SortedAtoms


class LevelMeasure(SortedAtoms):
    """A weighted sum of the sorted atoms, at a given level or at the predicted one."""

    uses_level = True

    def __init__(
        self, num_atoms: int, level: RiskLevel | None = None, options: Any = None
    ) -> None:
        """Initializes the measure.

        Args:
            num_atoms: ``M``.
            level: Where the level comes from; None: it is 1.
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
        """The weights of the sorted atoms at some levels.

        Args:
            levels: ``K`` levels.
            num_atoms: ``M``.
            options: The measure's options.

        Returns:
            ``[K, M]``.
        """
        raise NotImplementedError(f"{cls.__name__} must define rows().")

    @torch.no_grad()
    def set_level(self, alpha: float) -> None:
        """See :meth:`~.base.RiskMeasure.set_level`; predicted levels stay.

        The weights change in place, under everyone who holds them.
        """
        level = simple_level(alpha)
        if self._predicted or self.levels == (float(level),):
            return
        self.weights.copy_(self.rows([level], self.num_atoms, self.options))
        self.levels = (float(level),)

    def distort(self, fractions: Tensor) -> Tensor:
        """See :meth:`~.base.RiskMeasure.distort`; :meth:`at_level` of a given level.

        Args:
            fractions: Any shape.

        Returns:
            The same shape.

        Raises:
            ValueError: If the level is predicted.
        """
        if self._predicted:
            raise ValueError("Sampled quantiles need a static risk level.")
        return self.at_level(fractions, self.levels[0])

    def at_level(self, fractions: Tensor, level: float) -> Tensor:
        """:meth:`distort` at a level.

        Args:
            fractions: Any shape.
            level: In (0, 1].

        Returns:
            The same shape.
        """
        raise NotImplementedError(f"{type(self).__name__} must define at_level().")


class Cvar(LevelMeasure):
    """Mean of the lowest atoms: RMIX (Qiu et al., NeurIPS 2021), Eq. 2 to 6."""

    @dataclass(frozen=True)
    class Options:
        cvar_norm: Literal["count", "eq2_raw", "code_offby1"] = option(
            "count",
            "Divisor of the kept atoms: their number, or the paper's printed form, or"
            " the released code's.",
        )
        cvar_mode: Literal["ceil", "ceil_float32", "exact"] = option(
            "ceil",
            "Number of kept atoms: ceil(alpha M), the same as the released code's"
            " float32 arithmetic counts it (31 of 100 at 0.3), or exact: the last one"
            " in part.",
        )

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        yield from super().refusals(config)
        forms = config.cvar_mode, config.cvar_norm
        if config.cvar_mode == "exact" and config.cvar_norm != "count":
            yield "cvar_mode: 'exact' goes with cvar_norm 'count' only."
        if forms != ("ceil", "count") and config.quantiles == "sampled":
            yield (
                "cvar_norm, cvar_mode: are forms of cvar of fixed atoms; leave them at"
                " count and ceil."
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
            raise ValueError("Sampled quantiles need cvar_norm 'count'.")
        return level * fractions


class Var(LevelMeasure):
    """The quantile at the level."""

    Options = NoOptions

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See Part."""
        yield from super().refusals(config)
        if config.risk_mode == "static" and config.alpha == 1.0:
            yield "alpha: at level 1 var is the best atom of all; set alpha below 1."

    @classmethod
    def rows(cls, levels: Sequence[Fraction], num_atoms: int, options: Any) -> Tensor:
        """See :meth:`LevelMeasure.rows`."""
        return var_weights(levels, num_atoms)

    def at_level(self, fractions: Tensor, level: float) -> Tensor:
        """See :meth:`LevelMeasure.at_level`: the level itself."""
        return torch.full_like(fractions, level)
