"""Team envs: PettingZoo games, the adapter to one joint agent, and their registry.

Names are imported on first access, because some modules, such as the physics of a
building, need neither Gymnasium nor PettingZoo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_MODULES = ("errors", "registry", "team_env")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
