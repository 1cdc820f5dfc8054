"""Running episodes as callbacks see them, and the metrics that callbacks log.

Letters: ``E`` environments, ``N`` agents, ``D`` observation size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_risk.config.schema import ConfigError
from rllib_risk.core.callbacks import Hooks
from rllib_risk.env_wrappers.batched_env import slots_where

if TYPE_CHECKING:
    from rllib_risk.data.episodes import Episode
    from rllib_risk.env_wrappers.team_env import BatchedStep, BatchedTeamEnv


class RunningEpisode:
    """A running episode, as hooks see it.

    It has the attributes and methods of RLlib's episodes that make sense for a team
    that is one agent.

    Attributes:
        episode_id: Id of the episode, unique within the process.
        env_index: Index of its environment in the runner.
        length: Number of steps so far.
        total_reward: Sum of the team's rewards so far.
        custom_metrics: Numbers to log. The means over episodes are in the results, as
            ``env_runners/custom_metrics/NAME_mean`` and ``evaluation/NAME``.
        user_data: Data of the callbacks; ``custom_data`` is the same dict.
        hist_data: As in RLlib. It is not logged.
        obs: Present observations of the agents, float32 ``[N, D]``.
        last_actions: Last actions, int64 ``[N]``; None before the first step.
        last_reward: Last reward of the team.
        last_info: Info of the environment from the last step.
        is_terminated: Whether the environment ended the episode; ``is_truncated``: a
            time limit ended it.
    """

    def __init__(self, episode_id: str, env_index: int) -> None:
        """Initializes an episode before its first observation.

        Args:
            episode_id: See the attributes.
            env_index: See the attributes.
        """
        self.episode_id = self.id_ = episode_id
        self.env_index = env_index
        self.length = 0
        self.total_reward = 0.0
        self.custom_metrics: dict[str, float] = {}
        self.user_data: dict[str, Any] = {}
        self.custom_data = self.user_data
        self.hist_data: dict[str, list[float]] = {}
        self.obs: np.ndarray | None = None
        self.last_actions: np.ndarray | None = None
        self.last_reward = 0.0
        self.last_info: Mapping[str, Any] = {}
        self.is_terminated = self.is_truncated = False

    def __len__(self) -> int:
        """Number of steps so far."""
        return self.length

    @property
    def is_done(self) -> bool:
        """Whether the environment or a time limit ended the episode."""
        return self.is_terminated or self.is_truncated

    def get_return(self) -> float:
        """Sum of the team's rewards so far."""
        return self.total_reward

    def last_info_for(self, agent_id: Any = None) -> Mapping[str, Any]:
        """Returns the info of the environment from the last step.

        Args:
            agent_id: RLlib's argument; not used, because the team is one agent.
        """
        return self.last_info


class EpisodeLogger:
    """``metrics_logger`` of a hook; logged values become metrics of the episode."""

    def __init__(self, metrics: dict[str, float]) -> None:
        """Initializes the logger.

        Args:
            metrics: Dict that receives the logged values.
        """
        self._metrics = metrics
        self._values: dict[str, list[float]] = {}

    def log_value(
        self, key: str | tuple[str, ...], value: Any, *, reduce: str = "mean", **_: Any
    ) -> None:
        """Logs a number; several numbers of one episode are reduced to one.

        Args:
            key: Name, or several names, which are joined by ``/``.
            value: The number.
            reduce: Reduction: ``mean``, ``sum``, ``min`` or ``max``.
            **_: Arguments of RLlib's logger about windows over results. Results hold
                means over ``metrics_num_episodes_for_smoothing`` episodes.

        Raises:
            ConfigError: If the reduction does not exist.
        """
        reductions: dict[str, Callable[[list[float]], Any]] = {
            "mean": np.mean,
            "sum": np.sum,
            "min": np.min,
            "max": np.max,
        }
        if reduce not in reductions:
            raise ConfigError(
                f"callbacks: metrics_logger: reduce must be one of"
                f" {', '.join(reductions)}, not {reduce!r}."
            )
        name = key if isinstance(key, str) else "/".join(key)
        values = self._values.setdefault(name, [])
        values.append(float(value))
        self._metrics[name] = float(reductions[reduce](values))

    def log_dict(self, values: Mapping[str, Any], **options: Any) -> None:
        """Logs several numbers; see :meth:`log_value`.

        Args:
            values: Numbers by name.
            **options: See :meth:`log_value`.
        """
        for key, value in values.items():
            self.log_value(key, value, **options)


class EpisodeHooks:
    """Calls the hooks of the episodes that one env runner plays at the same time."""

    _numbers = itertools.count()

    def __init__(self, hooks: Hooks, runner: Any, envs: BatchedTeamEnv) -> None:
        """Initializes the hooks of one round.

        Args:
            hooks: The callbacks.
            runner: The env runner that plays.
            envs: Environments of the runner.
        """
        self._hooks = hooks
        self._envs = envs
        self._shared = {
            "worker": runner,
            "env_runner": runner,
            "policies": runner.policy_map,
            "base_env": None,
            "env": envs,
            "rl_module": None,
        }
        self._running: dict[int, RunningEpisode] = {}
        self._loggers: dict[int, EpisodeLogger] = {}

    def create(self, slots: np.ndarray) -> None:
        """Creates new episodes, replaces the old ones, calls ``on_episode_created``.

        Args:
            slots: Environments of the new episodes.
        """
        for slot in slots.tolist():
            episode = RunningEpisode(str(next(self._numbers)), slot)
            self._running[slot] = episode
            self._loggers[slot] = EpisodeLogger(episode.custom_metrics)
            self._call("on_episode_created", slot)

    def start(self, slots: np.ndarray) -> None:
        """Records first observations and calls ``on_episode_start``.

        Args:
            slots: Environments of the new episodes.
        """
        for slot in slots.tolist():
            self._running[slot].obs = self._envs.obs[slot]
            self._call("on_episode_start", slot)

    def step(self, actions: np.ndarray, step: BatchedStep, active: np.ndarray) -> None:
        """Records a step of all active environments and calls ``on_episode_step``.

        Args:
            actions: Actions, ``[E, N]``.
            step: Results of the environments. The hooks of a crashed episode are not
                called any more.
            active: Whether each environment made a step, bool ``[E]``.
        """
        for slot in slots_where(active):
            if slot in step.crashed:
                continue
            episode = self._running[slot]
            episode.length += 1
            episode.last_reward = float(step.rewards[slot])
            episode.total_reward += episode.last_reward
            episode.last_actions = actions[slot]
            episode.last_info = step.infos[slot]
            episode.obs = self._envs.obs[slot]
            episode.is_terminated = bool(step.terminateds[slot])
            episode.is_truncated = bool(step.truncateds[slot])
            self._call("on_episode_step", slot)

    def end(self, slot: int) -> dict[str, float]:
        """Calls ``on_episode_end`` and returns the metrics of an episode.

        Args:
            slot: Environment of the episode.

        Returns:
            Metrics that the callbacks logged for the episode.
        """
        self._call("on_episode_end", slot, prev_episode_chunks=[])
        return {k: float(v) for k, v in self._running[slot].custom_metrics.items()}

    def _call(self, name: str, slot: int, **more: Any) -> None:
        self._hooks.call(
            name,
            episode=self._running[slot],
            env_index=slot,
            metrics_logger=self._loggers[slot],
            **self._shared,
            **more,
        )


def call_sample_end(hooks: Hooks, runner: Any, episodes: list[Episode]) -> None:
    """Calls ``on_sample_end`` with the episodes of a round.

    Args:
        hooks: The callbacks.
        runner: The env runner that played.
        episodes: Episodes of the round. Logged values become metrics of the last one.
    """
    logger = EpisodeLogger(episodes[-1].metrics)
    hooks.call(
        "on_sample_end",
        env_runner=runner,
        worker=runner,
        samples=episodes,
        metrics_logger=logger,
    )
