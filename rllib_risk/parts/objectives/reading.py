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
    return bool(VALUE_PARTS.slots["loss"].part(config.loss).fits_atoms)


def uses_alpha(config: Any) -> bool:
    """Whether ``alpha`` is the level of the risk measure.

    Args:
        config: Configuration of a value-based algorithm.
    """
    measure = VALUE_PARTS.slots["risk_measure"].part(config.risk_measure)
    return bool(measure.uses_level) and config.risk_mode == "static"


def measure_at(config: Any) -> str | None:
    """Describes the risk measure and its level in words; None if it is the mean.

    Args:
        config: Configuration of a value-based algorithm.
    """
    if config.risk_measure == "mean":
        return None
    if uses_alpha(config):
        if config.risk_measure == "cvar" and config.alpha == 1.0:
            return None
        return f"{config.risk_measure} at level {config.alpha}"
    measure = VALUE_PARTS.slots["risk_measure"].part(config.risk_measure)
    return f"{config.risk_measure}{' at predicted levels' * measure.uses_level}"


def robustly(config: Any) -> str:
    """Describes a robust target in words; empty if the target is not robust.

    Args:
        config: The configuration.
    """
    target = getattr(config, "target", "plain")
    if target in ("contamination", "tv") and config.rho > 0.0:
        return f" under the worst kernel of a set ({target}, rho {config.rho})"
    return ""
