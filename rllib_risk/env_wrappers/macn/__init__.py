"""Multi-Agent Cliff Navigation."""

from rllib_risk.env_wrappers.macn.env import MACN

__all__ = ["MACN"]
