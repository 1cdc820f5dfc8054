"""The env `mpe`: cooperative tasks of the multi-agent particle envs."""

from rllib_risk.env_wrappers.mpe.env import MPE

__all__ = ["MPE"]
