"""Whether the agents' own best actions are the team's best for a risk measure.

The property is called RIGM in RiskQ (Shen et al., NeurIPS 2023). Which form of mixing
keeps which measure is in docs/risk.md, with a counterexample for every pair that does
not; ``tests/parts/test_rigm.py`` checks the table by enumeration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rllib_risk.parts.slots import VALUE_PARTS

# Distortions of probability: comonotone additive and positively homogeneous.
DISTORTIONS = ("var", "cvar", "wang", "cpw", "power")
# The form of mixing -> the measures of the team's return that it keeps.
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
    "per_quantile": "every quantile by itself",
}
# The parameter at which a measure is the mean.
_NEUTRAL = {"wang": 0.0, "cpw": 1.0, "power": 0.0, "mean_variance": 0.0}


def remarks(config: Any) -> Iterator[str]:
    """What a user should know about mixer and risk measure before a run.

    Args:
        config: A configuration with all keys as attributes.

    Yields:
        At most one line. Nothing is said about mixers and measures of the user's own
        whose form is unknown, nor where the loss fits no distribution of the team's.
    """
    form = VALUE_PARTS.slots["mixer"].part(config.mixer).form
    fits = VALUE_PARTS.slots["loss"].part(config.loss).fits_atoms
    measure = _measure(config)
    if not fits or form not in KEPT or measure not in _MEASURES:
        return
    see = "See docs/risk.md, 'Which mixers keep which risk measure'."
    if measure not in KEPT[form]:
        yield (
            f"mixer {config.mixer!r} ({_NAMES[form]}) does not keep risk_measure"
            f" {measure!r}: the agents' own best actions need not be the best joint"
            f" action for the {measure} of the team's return. {see}"
        )
    elif measure != "mean" and config.risk_mode == "dynamic":
        yield (
            f"risk_mode: 'dynamic' gives each agent its own level of {measure}, so"
            f" the agents' best actions are the best for no one {measure} of the"
            f" team's return. {see}"
        )
    elif measure != "mean" and not config.sort_atoms:
        yield (
            f"mixer {config.mixer!r} keeps risk_measure {measure!r} only if each"
            " agent's atoms ascend, and atoms that are learned may cross; set"
            f" sort_atoms: true. {see}"
        )


def _measure(config: Any) -> str:
    """The risk measure; ``mean`` where its level or parameter makes it the mean."""
    name: str = config.risk_measure
    if name == "cvar" and config.risk_mode == "static" and config.alpha == 1.0:
        return "mean"
    given = config.risk_parameter
    return "mean" if given is not None and given == _NEUTRAL.get(name) else name
