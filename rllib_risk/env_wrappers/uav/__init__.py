"""UAVs that collect data from devices on the ground."""

from rllib_risk.env_wrappers.uav.env import UAV

__all__ = ["UAV"]
