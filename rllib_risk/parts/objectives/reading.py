"""Functions that read which risk a configuration controls."""

from __future__ import annotations

from typing import Any

from rllib_risk.parts.slots import VALUE_PARTS


def is_value_based(config: Any) -> bool:
    """Whether the configuration has the parts of value-based algorithms.

    Args:
        config: The configuration, with all its keys as attributes.
    """
    return hasattr(config, "risk_measure")


def fits_distributions(config: Any) -> bool:
    """Whether the loss fits distributions of returns to the rewards.

    Args:
        config: Configuration of a value-based algorithm.
    """
    return bool(VALUE_PARTS.part("loss", config).fits_atoms)


def uses_alpha(config: Any) -> bool:
    """Whether ``alpha`` is the level of the risk measure.

    Args:
        config: Configuration of a value-based algorithm.
    """
    measure = VALUE_PARTS.part("risk_measure", config)
    level = VALUE_PARTS.part("risk_mode", config)
    return bool(measure.uses_level) and level.has_key("alpha")


def form_of_measure(config: Any) -> str:
    """Returns the form of the risk measure; ``mean`` for CVaR at level 1.

    Args:
        config: Configuration of a value-based algorithm.
    """
    form: str = VALUE_PARTS.part("risk_measure", config).form
    if form == "cvar" and uses_alpha(config) and config.alpha == 1.0:
        return "mean"
    return form


def measure_at(config: Any) -> str | None:
    """Describes the risk measure and its level in words; None if it is the mean.

    Args:
        config: Configuration of a value-based algorithm.
    """
    if form_of_measure(config) == "mean":
        return None
    if not VALUE_PARTS.part("risk_measure", config).uses_level:
        return str(config.risk_measure)
    if uses_alpha(config):
        return f"{config.risk_measure} at level {config.alpha}"
    if VALUE_PARTS.part("risk_mode", config).predicted:
        return f"{config.risk_measure} at predicted levels"
    return f"{config.risk_measure} at the levels of {config.risk_mode}"


def robustly(config: Any) -> str:
    """Describes a robust target in words; empty if the target is not robust.

    Args:
        config: The configuration.
    """
    robust = is_value_based(config) and VALUE_PARTS.part("target", config).robust
    if robust and config.rho > 0.0:
        return f" under the worst kernel of a set ({config.target}, rho {config.rho})"
    return ""
