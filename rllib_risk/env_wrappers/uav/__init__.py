"""Trajectories of drones that collect data."""

from rllib_risk.env_wrappers.uav.env import UAV

__all__ = ["UAV"]
