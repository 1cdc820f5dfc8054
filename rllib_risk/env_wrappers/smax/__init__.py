"""SMAX, StarCraft-like battles in JAX."""

from rllib_risk.env_wrappers.smax.env import SMAX

__all__ = ["SMAX"]
