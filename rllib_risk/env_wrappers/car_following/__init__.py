"""RiskQ's car-following game: two cars drive to a target close to each other."""

from rllib_risk.env_wrappers.car_following.env import CarFollowing

__all__ = ["CarFollowing"]
