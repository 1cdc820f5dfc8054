"""Two cars that drive to a target beside one another: RiskQ's car-following game."""

from rllib_risk.env_wrappers.car_following.env import CarFollowing

__all__ = ["CarFollowing"]
