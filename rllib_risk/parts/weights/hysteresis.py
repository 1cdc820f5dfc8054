"""Weights that depend on the error's sign: OW-QMIX, hysteresis and LH-IQN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rllib_risk.ops.hysteresis import hysteretic_weights, td_likelihood
from rllib_risk.parts.fractions import FractionOptions, fractions_of
from rllib_risk.parts.slots import VALUE_PARTS
from rllib_risk.parts.view import View
from rllib_risk.parts.weights.base import LesserWeight


class Optimistic(LesserWeight):
    """Gives errors of values above their target the smaller weight.

    It is OW-QMIX (Rashid et al., 2020, Eq. 8) for a team's value, and hysteresis
    (Matignon et al., 2007) for independent agents.
    """

    def weights(self, errors: Tensor, view: View) -> Tensor:
        """See :meth:`TDWeighting.weights`."""
        return hysteretic_weights(errors, self.lesser(view))


class Likelihood(LesserWeight):
    """As :class:`Optimistic`, but the weight is at least the target's likelihood.

    Lyu and Amato, "Likelihood Quantile Networks" (AAMAS 2020).
    """

    @dataclass(frozen=True)
    class Options(FractionOptions, LesserWeight.Options):
        pass

    options: Options

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        if not VALUE_PARTS.part("loss", config).fits_atoms:
            yield (
                f"td_weighting: {config.td_weighting!r} compares return distributions."
                " Set loss: quantile."
            )

    def weights(self, errors: Tensor, view: View) -> Tensor:
        """See :meth:`TDWeighting.weights`."""
        atoms = view.atoms.detach()
        o = self.options
        fractions = fractions_of(view, atoms, o.qr_fractions, o.tail_level)
        half_width = 0.5 / atoms.shape[-1]
        likelihood = td_likelihood(atoms, fractions, view.target_atoms, half_width)
        if view.wants_stats:
            view.log("td_likelihood_mean", view.mean(likelihood))
        return hysteretic_weights(errors, self.lesser(view), likelihood)
