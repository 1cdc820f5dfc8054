"""What callbacks see and log of the episodes that are being played.

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
    """What the hooks of an episode see of it.

    The attributes and methods are those of RLlib's episodes, as far as they make sense
    for a team that is one agent.

    Attributes:
        episode_id: Unique within the env runner.
        env_index: Which of the runner's environments plays it.
        length: Steps so far.
        total_reward: Sum of the team's rewards so far.
        custom_metrics: Numbers to log. The means over episodes are in the results, as
            ``env_runners/custom_metrics/NAME_mean`` and ``evaluation/NAME``.
        user_data: Room for the callbacks' own data; ``custom_data`` is the same.
        hist_data: As in RLlib. It is not logged.
        obs: float32 ``[N, D]``, what the agents observe now.
        last_actions: int64 ``[N]``; None before the first step.
        last_reward: The team's last reward.
        last_info: What the environment reported with the last step.
        is_terminated: Whether it ended; with ``is_truncated`` for a time limit.
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
        """Steps so far."""
        return self.length

    @property
    def is_done(self) -> bool:
        """Whether it ended, by the environment or by a time limit."""
        return self.is_terminated or self.is_truncated

    def get_return(self) -> float:
        """Sum of the team's rewards so far."""
        return self.total_reward

    def last_info_for(self, agent_id: Any = None) -> Mapping[str, Any]:
        """What the environment reported with the last step.

        Args:
            agent_id: RLlib's argument; the team's infos are those of one agent.
        """
        return self.last_info


class EpisodeLogger:
    """``metrics_logger`` of a hook: what it logs becomes metrics of the episode."""

    def __init__(self, metrics: dict[str, float]) -> None:
        """Initializes the logger.

        Args:
            metrics: Filled with what is logged.
        """
        self._metrics = metrics
        self._values: dict[str, list[float]] = {}

    def log_value(
        self, key: str | tuple[str, ...], value: Any, *, reduce: str = "mean", **_: Any
    ) -> None:
        """Logs a number; several of one episode are reduced to one.

        Args:
            key: Name, or names that are joined by ``/``.
            value: The number.
            reduce: ``mean``, ``sum``, ``min`` or ``max``.
            **_: Arguments of RLlib's logger about windows over results. Results hold
                means over ``metrics_num_episodes_for_smoothing`` episodes.

        Raises:
            ConfigError: If there is no such reduction.
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
        """Initializes for a round.

        Args:
            hooks: The callbacks.
            runner: The env runner that plays.
            envs: Its environments.
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
        """New episodes are about to begin; what these environments played is gone.

        Args:
            slots: Their environments.
        """
        for slot in slots.tolist():
            episode = RunningEpisode(str(next(self._numbers)), slot)
            self._running[slot] = episode
            self._loggers[slot] = EpisodeLogger(episode.custom_metrics)
            self._call("on_episode_created", slot)

    def start(self, slots: np.ndarray) -> None:
        """They have begun.

        Args:
            slots: Their environments.
        """
        for slot in slots.tolist():
            self._running[slot].obs = self._envs.obs[slot]
            self._call("on_episode_start", slot)

    def step(self, actions: np.ndarray, step: BatchedStep, active: np.ndarray) -> None:
        """A step was made.

        Args:
            actions: ``[E, N]``.
            step: What the environments returned. The hooks of episodes that crashed
                are not called any more.
            active: Which environments stepped, bool ``[E]``.
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
        """An episode has ended.

        Args:
            slot: Its environment.

        Returns:
            What the callbacks logged of it.
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
        episodes: Of the round. What is logged becomes a metric of the last one.
    """
    logger = EpisodeLogger(episodes[-1].metrics)
    hooks.call(
        "on_sample_end",
        env_runner=runner,
        worker=runner,
        samples=episodes,
        metrics_logger=logger,
    )
