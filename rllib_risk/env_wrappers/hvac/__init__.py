"""Heating and cooling of a building.

The env is imported when it is first asked for, since its physics need NumPy alone.
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
