"""Heating and cooling of a building."""

from rllib_risk.env_wrappers.hvac.env import HVAC

__all__ = ["HVAC"]
