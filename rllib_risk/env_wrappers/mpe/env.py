"""Multi-agent particle envs: cooperative tasks of MPE2 by name.

Source: R. Lowe et al., "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
Environments", NeurIPS 2017, as the package `mpe2` maintains them. This env steps the
package's parallel envs unchanged. Before MPE2 they were in `pettingzoo.mpe`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from pettingzoo.utils import BaseParallelWrapper

from rllib_risk.env_wrappers.arguments import (
    check_arguments,
    check_package,
    number,
    positive,
    suggestion,
)
from rllib_risk.env_wrappers.errors import EnvConfigError


@dataclass(frozen=True)
class Task:
    """A cooperative task.

    Attributes:
        version: Version of the task's module.
        team_reward: Rule that makes the team reward from the agents' rewards.
        team_sizes: Whether the number of agents can be chosen.
        local_ratio: Whether the task has the argument `local_ratio`.
    """

    version: int
    team_reward: str = "shared"
    team_sizes: bool = False
    local_ratio: bool = False


TASKS = {
    "simple": Task(3),
    "simple_spread": Task(3, "sum", team_sizes=True, local_ratio=True),
    "simple_reference": Task(3, "sum", local_ratio=True),
    "simple_speaker_listener": Task(4),
}
# Tasks of two sides with opposite rewards, which have no team reward.
COMPETITIVE = (
    "simple_adversary",
    "simple_crypto",
    "simple_push",
    "simple_tag",
    "simple_world_comm",
)
# Arguments of the package that are keys of this env -> name of the key.
_OWN_KEYS = {
    "N": "num_agents",
    "local_ratio": "local_ratio",
    "max_cycles": "episode_limit",
    "render_mode": "render_mode",
}


class MPE(BaseParallelWrapper):
    """A cooperative task of the particle envs, with discrete actions.

    Actions: 0 stay, 1 left, 2 right, 3 down, 4 up. In simple_reference, an action is a
    message and one of these moves. The speaker chooses only a message. `state()` joins
    the observations of all agents. Episodes are truncated after `episode_limit` steps.

    Attributes:
        episode_limit: Steps after which an episode is truncated.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "mpe", "render_modes": ["rgb_array"]}

    def __init__(
        self,
        task: str = "simple_spread",
        num_agents: int | None = None,
        local_ratio: float | None = None,
        episode_limit: int = 25,
        kwargs: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Makes the task's parallel env.

        Args:
            task: "simple_spread", "simple_reference", "simple_speaker_listener" or
                "simple".
            num_agents: Number of agents and of landmarks in simple_spread; null: 3.
            local_ratio: Weight of an agent's own reward, in [0, 1]; the common reward
                has the rest. Only for simple_spread and simple_reference; null: 0.5.
            episode_limit: Steps after which an episode is truncated.
            kwargs: Further arguments of the task, such as {dynamic_rescaling: true}.
            render_mode: "rgb_array" or null.

        Raises:
            EnvConfigError: If the package is missing or an argument is wrong.
        """
        found = _task(task)
        self.episode_limit = positive("env_config.episode_limit", episode_limit)
        arguments: dict[str, Any] = {
            "max_cycles": episode_limit,
            "continuous_actions": False,
            "render_mode": render_mode,
        }
        if num_agents is not None:
            _check_has(task, "num_agents", found.team_sizes)
            arguments["N"] = positive("env_config.num_agents", num_agents)
        if local_ratio is not None:
            _check_has(task, "local_ratio", found.local_ratio)
            ratio = number("env_config.local_ratio", local_ratio)
            if not 0 <= ratio <= 1:
                raise EnvConfigError(
                    f"env_config.local_ratio must be in [0, 1], not {local_ratio!r}"
                )
            arguments["local_ratio"] = ratio
        module = _module(f"{task}_v{found.version}")
        _check_kwargs(module, kwargs)
        super().__init__(module.parallel_env(**arguments, **(kwargs or {})))

    @staticmethod
    def adapter_defaults(
        task: str = "simple_spread", **env_config: Any
    ) -> dict[str, Any]:
        """Defaults of the adapter: the rule for the team reward of this task."""
        return {"team_reward": _task(task).team_reward}


def _task(name: Any) -> Task:
    if isinstance(name, str) and name in TASKS:
        return TASKS[name]
    if name in COMPETITIVE:
        raise EnvConfigError(
            f"env_config.task: {name} has two sides with opposite rewards, and a team"
            f" has one. Cooperative tasks: {', '.join(TASKS)}. To train one side, wrap"
            " the env so that your own policy plays the other, and use env: pettingzoo"
        )
    raise EnvConfigError(f"env_config.task: unknown {name!r}{suggestion(name, TASKS)}")


def _check_has(task: str, key: str, there: bool) -> None:
    if not there:
        raise EnvConfigError(f"env_config.{key}: task {task} has no such argument")


def _module(name: str) -> ModuleType:
    """Imports a task's module from MPE2, or from an old PettingZoo without MPE2."""
    if importlib.util.find_spec("mpe2") is None:
        # Newer versions of PettingZoo have a module that only raises ImportError.
        with contextlib.suppress(ImportError):
            return importlib.import_module(f"pettingzoo.mpe.{name}")
        check_package("mpe", "mpe2", "mpe")
    return importlib.import_module(f"mpe2.{name}")


def _check_kwargs(module: ModuleType, kwargs: Any) -> None:
    """Raises if an argument is unknown, or must be given under another key."""
    if not isinstance(kwargs or {}, Mapping):
        raise EnvConfigError("env_config.kwargs must be a mapping of argument names")
    for key in kwargs or {}:
        if key in _OWN_KEYS:
            raise EnvConfigError(
                f"env_config.kwargs.{key}: use env_config.{_OWN_KEYS[key]}"
            )
        if key == "continuous_actions":
            raise EnvConfigError(
                "env_config.kwargs.continuous_actions: actions are discrete here; for a"
                " grid of continuous ones use env: pettingzoo with box_bins"
            )
    check_arguments(module.raw_env, kwargs or {}, "env_config.kwargs")
