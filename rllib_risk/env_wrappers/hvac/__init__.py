"""Heating and cooling of a building.

`HVAC` is imported on first access: other modules of this package need only NumPy, not
Gymnasium and PettingZoo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_risk.env_wrappers.hvac.env import HVAC

__all__ = ["HVAC"]


def __getattr__(name: str) -> Any:
    if name == "HVAC":
        from rllib_risk.env_wrappers.hvac.env import HVAC

        return HVAC
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
