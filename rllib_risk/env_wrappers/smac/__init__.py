"""The env `smac`: StarCraft II battles."""

from rllib_risk.env_wrappers.smac.env import SMAC

__all__ = ["SMAC"]
