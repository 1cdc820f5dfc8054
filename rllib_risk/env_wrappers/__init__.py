"""Team envs: PettingZoo games, the adapter to one joint agent, and their registry."""

from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.errors import (
    EnvConfigError,
    EnvContractError,
    EnvFailedError,
    IllegalActionError,
    NonFiniteError,
)
from rllib_risk.env_wrappers.registry import (
    ENVS,
    make_batched,
    make_team_env,
    register_envs,
)
from rllib_risk.env_wrappers.team_env import (
    BatchedStep,
    BatchedTeamEnv,
    LoopedTeamEnvs,
    TeamEnv,
)

__all__ = [
    "ENVS",
    "BatchedStep",
    "BatchedTeamEnv",
    "EnvConfigError",
    "EnvContractError",
    "EnvFailedError",
    "IllegalActionError",
    "LoopedTeamEnvs",
    "NonFiniteError",
    "TeamEnv",
    "TeamSpec",
    "make_batched",
    "make_team_env",
    "register_envs",
]
