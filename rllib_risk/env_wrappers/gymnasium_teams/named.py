"""Level-based foraging and the robotic warehouse, from their published packages.

Source of both: G. Papoudakis, F. Christianos, L. Schäfer, S. V. Albrecht, "Benchmarking
Multi-Agent Deep Reinforcement Learning Algorithms in Cooperative Tasks", NeurIPS 2021
Datasets and Benchmarks. The packages `lbforaging` and `rware` are used unchanged. Both
report their time limit as a termination; here it truncates the episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rllib_risk.env_wrappers.arguments import check_package
from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.gymnasium_teams.env import (
    JointGymnasiumEnv,
    arguments_of,
    limit_of,
)
from rllib_risk.env_wrappers.gymnasium_teams.making import make_by_id


class _NamedTeam(JointGymnasiumEnv):
    """An env of a package that registers its tasks with Gymnasium.

    Attributes:
        name: Name of the env, and of the extra that installs the package.
        module: Module of the package.
        prefix: Beginning of the package's ids.
        limit_key: Argument of the package's envs that sets the time limit in steps.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    prefix: ClassVar[str]
    limit_key: ClassVar[str]

    def __init__(
        self, id: str, kwargs: Mapping[str, Any] | None, episode_limit: int | None
    ) -> None:
        check_package(self.name, self.module, self.name)
        given, limit = arguments_of(kwargs), limit_of(episode_limit)
        if not isinstance(id, str) or not id.startswith(self.prefix):
            raise EnvConfigError(
                f"env_config.id: {id!r} is no task of {self.module}; its ids begin with"
                f" {self.prefix}. For other packages use env: gymnasium"
            )
        if self.limit_key in given:
            raise EnvConfigError(
                f"env_config.kwargs.{self.limit_key}: use env_config.episode_limit"
            )
        if limit is not None:
            given[self.limit_key] = limit
        super().__init__(make_by_id(f"{self.module}:{id}", given))
        assert self.gymnasium_env.spec is not None
        self.episode_limit = self.gymnasium_env.spec.kwargs[self.limit_key]

    @staticmethod
    def adapter_defaults(**env_config: Any) -> dict[str, Any]:
        """The team gets the sum by default, because each agent has its own reward."""
        return {"team_reward": "sum"}

    def _cut_off(self) -> bool:
        """Whether the last step reached the time limit."""
        return self.episode_limit is not None and self._steps >= self.episode_limit

    def _truncate(
        self, terminations: dict[str, bool], truncations: dict[str, bool]
    ) -> None:
        """Turns terminations into truncations, in place."""
        for agent, ended in terminations.items():
            truncations[agent] |= ended
            terminations[agent] = False


class LBF(_NamedTeam):
    """Level-based foraging: agents load food together if their levels suffice.

    Actions: Discrete(6): 0 none, 1 north, 2 south, 3 west, 4 east, 5 load. The episode
    terminates when no food is left, and is truncated after `episode_limit` steps.

    The info of every step holds `is_success`: all food is loaded.
    """

    name, module = "lbf", "lbforaging"
    prefix, limit_key = "Foraging-", "max_episode_steps"
    metadata: ClassVar[dict[str, Any]] = {"name": "lbf", "render_modes": []}

    def __init__(
        self,
        id: str = "Foraging-8x8-2p-2f-coop-v3",
        kwargs: Mapping[str, Any] | None = None,
        episode_limit: int | None = None,
    ) -> None:
        """Makes the env.

        Args:
            id: Id of a task in lbforaging: size of the field, number of players (p) and
                foods (f), "-coop" if loading takes all players, "-2s" if agents see two
                cells far.
            kwargs: Arguments of the env that replace the registered ones, such as
                {penalty: 0.1}.
            episode_limit: Steps after which an episode is truncated; null: the limit of
                the package, 50.

        Raises:
            EnvConfigError: If lbforaging is missing or an argument is wrong.
        """
        super().__init__(id, kwargs, episode_limit)

    def _judge_ends(
        self,
        terminations: dict[str, bool],
        truncations: dict[str, bool],
        infos: dict[str, dict],
    ) -> None:
        all_loaded = not self.gymnasium_env.unwrapped.field.any()  # type: ignore[attr-defined]
        if self._cut_off() and not all_loaded:
            self._truncate(terminations, truncations)
        for info in infos.values():
            info["is_success"] = all_loaded


class RWARE(_NamedTeam):
    """Robotic warehouse: robots bring requested shelves to a goal.

    Actions: Discrete(5): 0 none, 1 forward, 2 left, 3 right, 4 toggle load. Episodes
    are truncated after `episode_limit` steps.
    """

    name, module = "rware", "rware"
    prefix, limit_key = "rware", "max_steps"
    metadata: ClassVar[dict[str, Any]] = {"name": "rware", "render_modes": []}

    def __init__(
        self,
        id: str = "rware-tiny-2ag-v2",
        kwargs: Mapping[str, Any] | None = None,
        episode_limit: int | None = None,
    ) -> None:
        """Makes the env.

        Args:
            id: Id of a task in rware: size, number of agents (ag), and "-easy" or
                "-hard" if the task is not the normal one.
            kwargs: Arguments of the env that replace the registered ones, such as
                {sensor_range: 2}.
            episode_limit: Steps after which an episode is truncated; null: the limit of
                the package, 500.

        Raises:
            EnvConfigError: If rware is missing or an argument is wrong.
        """
        super().__init__(id, kwargs, episode_limit)

    def _judge_ends(
        self,
        terminations: dict[str, bool],
        truncations: dict[str, bool],
        infos: dict[str, dict],
    ) -> None:
        if self._cut_off():
            self._truncate(terminations, truncations)
