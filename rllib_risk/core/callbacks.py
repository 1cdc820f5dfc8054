"""RLlib's callbacks for rounds of whole episodes.

``callbacks`` takes what RLlib takes: a subclass of ``RLlibCallback``, a list of them, a
callable that makes one, and functions (``config.callbacks(on_episode_end=...)``). In a
file it is an import path, ``my_module:MyCallbacks``, or a list of them.

Hooks of episodes are called where episodes are played: in the trial's own process, or
in the remote env runners. A hook that can never be called here is refused.

Letters: ``E`` environments, ``N`` agents, ``D`` observation size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_risk.config.imports import import_path
from rllib_risk.config.schema import ConfigError

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    from rllib_risk.data.episodes import Episode
    from rllib_risk.env_wrappers.team_env import BatchedStep, BatchedTeamEnv

# Hooks that can never be called here, and what to use instead.
REFUSED_HOOKS: dict[str, str] = {
    "on_postprocess_trajectory": "use on_sample_end, which gets whole episodes",
    "on_sub_environment_created": "use on_environment_created",
    "on_evaluate_offline_start": "use on_evaluate_start",
    "on_evaluate_offline_end": "use on_evaluate_end",
    "on_offline_eval_runners_recreated": "use on_env_runners_recreated",
    "on_workers_recreated": "use on_env_runners_recreated",
}
HOOKS: tuple[str, ...] = (
    "on_algorithm_init",
    "on_checkpoint_loaded",
    "on_train_result",
    "on_evaluate_start",
    "on_evaluate_end",
    "on_env_runners_recreated",
    "on_create_policy",
    "on_environment_created",
    "on_episode_created",
    "on_episode_start",
    "on_episode_step",
    "on_episode_end",
    "on_sample_end",
    "on_learn_on_batch",
)


class Hooks:
    """The hooks that a configuration's callbacks override; all others cost nothing."""

    def __init__(self, config: AlgorithmConfig) -> None:
        """Makes the callbacks.

        Args:
            config: A configuration; see RLlib's ``AlgorithmConfig.callbacks``.
        """
        combined = Several(_as_list(config.callbacks_class))()
        self._calls: dict[str, list[Callable[..., None]]] = {}
        for name in HOOKS:
            calls = functions_of(config, name)
            if name in vars(combined):
                calls.insert(0, getattr(combined, name))
            if calls:
                self._calls[name] = calls

    def wants(self, prefix: str) -> bool:
        """Whether any hook whose name begins so is overridden.

        Args:
            prefix: Such as ``on_episode_``.
        """
        return any(name.startswith(prefix) for name in self._calls)

    def call(self, name: str, **arguments: Any) -> None:
        """Calls a hook of all callbacks, in the order in which they were given.

        Args:
            name: The hook.
            **arguments: As RLlib documents them.
        """
        for call in self._calls.get(name, ()):
            call(**arguments)


class Several:
    """Several classes of callbacks as one, for RLlib, which calls what it is given.

    Attributes:
        makers: The classes, or callables that make callbacks.
    """

    def __init__(self, makers: Sequence[Any]) -> None:
        """Initializes what stands in for one class.

        Args:
            makers: See the attributes; texts are paths ``module:Class``.

        Raises:
            ConfigError: If one cannot be imported.
        """
        self.makers: list[Callable[[], RLlibCallback]] = resolve_callbacks(list(makers))

    def __repr__(self) -> str:
        """For ``params.json``."""
        return f"{type(self).__name__}({self.makers!r})"

    def __call__(self) -> RLlibCallback:
        """One callback object with the hooks of all of them, and no others."""
        instances = [make() for make in self.makers]
        combined = RLlibCallback()
        for name in (*HOOKS, *REFUSED_HOOKS):
            methods = [getattr(i, name) for i in instances if _overrides(i, name)]
            if methods:
                setattr(combined, name, partial(_call_all, methods))
        return combined


def _call_all(methods: list[Callable[..., None]], **arguments: Any) -> None:
    for method in methods:
        method(**arguments)


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
        for slot in np.flatnonzero(active).tolist():
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


def functions_of(config: AlgorithmConfig, hook: str) -> list[Callable[..., None]]:
    """The functions that a configuration has for a hook.

    Args:
        config: The configuration.
        hook: Name of the hook.

    Returns:
        What ``config.callbacks(on_...=...)`` was given.
    """
    return _as_list(getattr(config, f"callbacks_{hook}", None))


def resolve_callbacks(value: Any) -> Any:
    """Imports callbacks that are named by import path.

    Args:
        value: What ``callbacks`` may be; texts are paths ``module:Class``.

    Returns:
        The same with classes in place of texts.

    Raises:
        ConfigError: If one cannot be imported.
    """
    if isinstance(value, (list, tuple)):
        return [resolve_callbacks(item) for item in value]
    if isinstance(value, str):
        return import_path(value, "callbacks", dotted=True)
    return value


def check_callbacks(config: AlgorithmConfig) -> None:
    """Refuses callbacks that override a hook that is never called.

    Args:
        config: The configuration.

    Raises:
        ConfigError: If there is one; the message names what to use instead.
    """
    functions = [function for hook in HOOKS for function in functions_of(config, hook)]
    for make in (*functions, *_as_list(config.callbacks_class)):
        if not callable(make):
            raise ConfigError(
                "callbacks: must be a subclass of RLlibCallback, a list of them,"
                f" 'module:Class', or functions, not {make!r}."
            )
    for make in _as_list(config.callbacks_class):
        made = make if isinstance(make, type) else make()
        for hook, instead in REFUSED_HOOKS.items():
            if _overrides(made, hook):
                name = getattr(make, "__name__", type(make).__name__)
                raise ConfigError(
                    f"callbacks: {name} overrides {hook}, which is never called here;"
                    f" {instead}. Several classes are given as a list."
                )


def _overrides(callbacks: Any, hook: str) -> bool:
    """Whether a class of callbacks, or an instance, has a hook of its own."""
    if not isinstance(callbacks, type):
        if hook in vars(callbacks):
            return True
        callbacks = type(callbacks)
    return getattr(callbacks, hook, None) is not getattr(RLlibCallback, hook, None)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
