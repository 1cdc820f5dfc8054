"""Checks RIGM: whether the agents' best actions form the best joint action.

The property RIGM for a risk measure is defined in RiskQ (Shen et al., NeurIPS 2023).
The table in docs/risk.md shows which form of mixing has it for which measure, with a
counterexample for every other pair. ``tests/parts/test_rigm.py`` checks the table by
enumeration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rllib_risk.parts.objectives.reading import fits_distributions, form_of_measure
from rllib_risk.parts.slots import VALUE_PARTS

# Distortions of probability are comonotone additive and positively homogeneous.
DISTORTIONS = ("var", "cvar", "wang", "cpw", "power")
# Form of mixing -> risk measures for which it has the property RIGM.
KEPT: dict[str, tuple[str, ...]] = {
    "sum": ("mean", *DISTORTIONS),
    "weighted": ("mean", *DISTORTIONS),
    "mean_and_shape": ("mean",),
    "per_quantile": ("var",),
}
_MEASURES = ("mean", *DISTORTIONS, "mean_variance")
_NAMES = {
    "sum": "a sum",
    "weighted": "a weighted sum",
    "mean_and_shape": "mean and shape",
    "per_quantile": "every quantile separately",
}
# Parameter for which a measure is the mean.
_NEUTRAL = {"wang": 0.0, "cpw": 1.0, "power": 0.0, "mean_variance": 0.0}


def remarks(config: Any) -> Iterator[str]:
    """Yields a warning if mixer and risk measure do not have the property RIGM.

    Args:
        config: A configuration with all keys as attributes.

    Yields:
        At most one line. There is no warning for custom mixers and measures of unknown
        form, or if the loss fits no distribution of the team's return.
    """
    form = VALUE_PARTS.part("mixer", config).form
    measure = _measure(config)
    known = form in KEPT and measure in _MEASURES
    if not known or not fits_distributions(config):
        return
    see = "See docs/risk.md, 'Which mixers keep which risk measure'."
    if measure not in KEPT[form]:
        yield (
            f"mixer {config.mixer!r} ({_NAMES[form]}) does not keep risk_measure"
            f" {measure!r}: the agents' own best actions may not be the best joint"
            f" action for the {measure} of the team's return. {see}"
        )
    elif measure != "mean" and VALUE_PARTS.part("risk_mode", config).predicted:
        yield (
            f"risk_mode: {config.risk_mode!r} gives each agent its own level of"
            f" {measure}. The agents' best actions are then not the best joint action"
            f" for a {measure} of the team's return at one level. {see}"
        )
    elif measure != "mean" and not config.sort_atoms:
        yield (
            f"mixer {config.mixer!r} keeps risk_measure {measure!r} only if each"
            " agent's atoms ascend, but learned atoms may cross. Set sort_atoms: true."
            f" {see}"
        )


def _measure(config: Any) -> str:
    """Risk measure; ``mean`` if its level or parameter makes it equal to the mean."""
    form, given = form_of_measure(config), config.risk_parameter
    return "mean" if given is not None and given == _NEUTRAL.get(form) else form
