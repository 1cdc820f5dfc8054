"""The env `vmas`: physical tasks of VMAS, many copies stepped as tensors."""

from rllib_risk.env_wrappers.vmas.env import VMAS

__all__ = ["VMAS"]
