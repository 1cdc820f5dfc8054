"""Everything of Ray that is not public, in one place.

The rest of the package uses Ray's public API and the classes of RLlib's old API stack
that it extends. What else it needs is here, one small function each, with a comment
that says what the function touches. Checked with Ray 2.48 to 2.60 by
``tools/check_ray_versions.py``. Ray is imported inside the functions, so that a program
can set its environment variables first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

# Loggers of Ray that warn in every run of the old API stack, or report what the command
# reports itself. A name that a version does not have does no harm.
NOISY_LOGGERS = (
    "ray._common.deprecation",  # after 2.48
    "ray.rllib.utils.deprecation",  # 2.48
    "ray.rllib.algorithms.algorithm_config",
    "ray.rllib.algorithms.algorithm",
    "ray.rllib.utils.tensor_dtype",
    "ray.tune.tune",
    "ray.tune.execution.tune_controller",
    "ray.tune.execution.experiment_state",
    "ray.tune.trainable.trainable",
    "ray.tune.utils.util",
)

# Registries


def env_creator(name: str) -> Callable[[Any], Any] | None:
    """The function that was registered with ``ray.tune.register_env``.

    Args:
        name: Name of the environment.

    Returns:
        The function; None if there is no such environment.
    """
    # Tune's registry has no public reader.
    from ray.tune.registry import ENV_CREATOR, _global_registry

    if not _global_registry.contains(ENV_CREATOR, name):
        return None
    return _global_registry.get(ENV_CREATOR, name)


def rllib_registry() -> Mapping[str, Callable[[], tuple[type, Any]]]:
    """RLlib's own algorithms: name to a function that gives class and configuration."""
    # The public get_algorithm_class() says neither the names nor the configurations.
    from ray.rllib.algorithms.registry import ALGORITHMS

    return {name: get for name, get in ALGORITHMS.items() if not name.startswith("_")}


def not_provided() -> object:
    """The default value of the arguments of AlgorithmConfig's setters."""
    from ray.rllib.utils.from_config import NotProvided

    return NotProvided


def log_once(key: str) -> bool:
    """Whether this process asks with this key for the first time."""
    from ray.util.debug import log_once as first_time

    return first_time(key)


# Episodes


def episode_metrics(length: int, total: float, numbers: Mapping[str, float]) -> Any:
    """What a RolloutWorker reports about an episode.

    Args:
        length: Env steps.
        total: Return.
        numbers: Custom metrics.

    Returns:
        An object with ``episode_length``, ``episode_reward`` and ``custom_metrics``.
    """
    from ray.rllib.evaluation.metrics import RolloutMetrics

    return RolloutMetrics(length, total, custom_metrics=dict(numbers))


# Remote runners, by way of EnvRunnerGroup._worker_manager, a FaultTolerantActorManager


def call_runners(
    group: EnvRunnerGroup,
    function: Callable[..., Any],
    tag: str,
    runners: Sequence[int] | None,
) -> None:
    """Sends an asynchronous request to remote runners.

    A runner that already has ``max_requests_in_flight_per_env_runner`` requests gets
    none.

    Args:
        group: The runners.
        function: Is called with the runner, in the runner's process.
        tag: By which :func:`take_answers` finds the answers.
        runners: Ids of the runners; None: all healthy ones.
    """
    # The answers of EnvRunnerGroup.foreach_env_runner_async hide errors.
    group._worker_manager.foreach_actor_async(
        function, tag=tag, remote_actor_ids=runners
    )


def take_answers(group: EnvRunnerGroup, tag: str, timeout_s: float) -> list[Any]:
    """Waits for answers to requests with this tag.

    Args:
        group: The runners.
        tag: The tag of the requests.
        timeout_s: How long to wait for the first answer.

    Returns:
        Objects with ``ok``, ``actor_id`` and ``get()``.
    """
    manager = group._worker_manager
    return list(manager.fetch_ready_async_reqs(tags=tag, timeout_seconds=timeout_s))


def num_unanswered(group: EnvRunnerGroup, tag: str) -> int:
    """Number of requests with this tag that have no answer yet."""
    count = group._worker_manager.num_outstanding_async_reqs
    # Ray 2.48 counts the requests of all tags. This package has only one tag
    # for each group of runners.
    return count(tag=tag) if "tag" in inspect.signature(count).parameters else count()
