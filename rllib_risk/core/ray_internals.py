"""Access to non-public parts of Ray and RLlib; for Tune see ``tune_internals.py``.

The rest of the package uses Ray's public API and the classes of RLlib's old API stack
that it extends. All other access to Ray is here, in one small function for each use. A
comment says what the function touches. Checked with Ray 2.48 to 2.60 by
``tools/check_ray_versions.py``. Ray is imported inside the functions, so that a program
can set its environment variables first.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import Counter

    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
    from ray.rllib.env.env_runner_group import EnvRunnerGroup
    from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2

# Loggers of Ray that warn in every run of the old API stack, or report what the command
# reports itself. A name that a version does not have does no harm.
NOISY_LOGGERS = (
    "ray._common.deprecation",  # after 2.48
    "ray.rllib.utils.deprecation",  # 2.48
    "ray.rllib.algorithms.algorithm_config",
    "ray.rllib.algorithms.algorithm",
    "ray.rllib.algorithms.sac.sac",
    "ray.rllib.utils.tensor_dtype",
    "ray.rllib.utils.framework",
    "ray.tune.tune",
    "ray.tune.execution.tune_controller",
    "ray.tune.execution.experiment_state",
    "ray.tune.trainable.trainable",
    "ray.tune.utils.util",
)

# Registries


def env_creator(name: str) -> Callable[[Any], Any] | None:
    """Returns the function that was registered with ``ray.tune.register_env``.

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
    """Returns RLlib's algorithms: functions that give class and config, by name."""
    # The public get_algorithm_class() gives neither the names nor the configurations.
    from ray.rllib.algorithms.registry import ALGORITHMS

    return {name: get for name, get in ALGORITHMS.items() if not name.startswith("_")}


def not_provided() -> object:
    """The default value of the arguments of AlgorithmConfig's setters."""
    from ray.rllib.utils.from_config import NotProvided

    return NotProvided


def log_once(key: str) -> bool:
    """Whether this is the first call with this key in this process."""
    from ray.util.debug import log_once as first_time

    return first_time(key)


def node_address() -> str:
    """The address of this machine in the Ray cluster."""
    import ray

    # Exported by ray.util, and not documented.
    return ray.util.get_node_ip_address()


def notify_driver(text: str) -> None:
    """Prints a line where the Ray driver runs; does nothing outside of a Ray worker.

    Touches ``push_error_to_driver``, with which Ray itself reports lost processes.

    Args:
        text: The line.
    """
    import ray
    from ray._private.utils import push_error_to_driver
    from ray._private.worker import WORKER_MODE, global_worker

    if ray.is_initialized() and global_worker.mode == WORKER_MODE:
        push_error_to_driver(
            global_worker, "env_timeout", text, global_worker.current_job_id
        )


@contextlib.contextmanager
def starting_no_ray(wanted: bool) -> Iterator[None]:
    """Keeps a group without remote runners from starting Ray.

    RLlib's group of runners puts configuration and weights for remote runners into
    Ray's store. This starts Ray even if there is no remote runner. Touches the name
    ``ray`` in the module of the group, unless Ray runs already.

    Args:
        wanted: Whether there is no remote runner. False: nothing changes.

    Yields:
        Nothing.
    """
    import ray
    from ray.rllib.env import env_runner_group

    if not wanted or ray.is_initialized():
        yield
        return
    env_runner_group.ray = _NoStore()
    try:
        yield
    finally:
        env_runner_group.ray = ray


class _NoStore:
    """Stands in for the module ``ray``, without its store."""

    def __getattr__(self, name: str) -> Any:
        import ray

        return getattr(ray, name)

    def put(self, value: Any) -> None:
        """Stores nothing, because no remote runner reads it."""


# Episodes


def episode_metrics(length: int, total: float, numbers: Mapping[str, float]) -> Any:
    """Builds what a RolloutWorker reports about an episode.

    Args:
        length: Env steps of the episode.
        total: Return of the episode.
        numbers: Custom metrics by name.

    Returns:
        An object with ``episode_length``, ``episode_reward`` and ``custom_metrics``.
    """
    from ray.rllib.evaluation.metrics import RolloutMetrics

    return RolloutMetrics(length, total, custom_metrics=dict(numbers))


# Algorithm, AlgorithmConfig and TorchPolicyV2: attributes of the base classes


def counters(algorithm: Algorithm) -> Counter[str]:
    """Returns the counters of the algorithm, by name."""
    return algorithm._counters


def timers(algorithm: Algorithm) -> Mapping[str, Any]:
    """Returns the timers whose means RLlib reports under ``timers/``, by name."""
    return algorithm._timers


def add_sampled_steps(algorithm: Algorithm, steps: int) -> None:
    """Counts sampled env steps. The team is one agent of RLlib."""
    from ray.rllib.utils import metrics

    algorithm._counters[metrics.NUM_ENV_STEPS_SAMPLED] += steps
    algorithm._counters[metrics.NUM_AGENT_STEPS_SAMPLED] += steps


def add_trained_steps(algorithm: Algorithm, steps: int) -> None:
    """Counts env steps that were learned from."""
    from ray.rllib.utils import metrics

    algorithm._counters[metrics.NUM_ENV_STEPS_TRAINED] += steps
    algorithm._counters[metrics.NUM_AGENT_STEPS_TRAINED] += steps


def num_sampled_steps(algorithm: Algorithm) -> int:
    """Total env steps sampled; ``num_env_steps_sampled_lifetime`` in results."""
    return counted_steps(algorithm._counters, trained=False)


def num_trained_steps(algorithm: Algorithm) -> int:
    """Total env steps learned from."""
    return counted_steps(algorithm._counters, trained=True)


def counted_steps(counters: Mapping[str, Any], *, trained: bool) -> int:
    """Reads the env steps sampled, or learned from, from an algorithm's counters."""
    from ray.rllib.utils import metrics

    return int(
        counters.get(
            metrics.NUM_ENV_STEPS_TRAINED if trained else metrics.NUM_ENV_STEPS_SAMPLED,
            0,
        )
    )


def episode_history(algorithm: Algorithm) -> list[Any]:
    """Metrics of the episodes whose means are the ``env_runners/`` results."""
    return algorithm._episode_history


def set_progress(algorithm: Algorithm, iteration: int, history: list[Any]) -> None:
    """Restores RLlib's progress that is not in :func:`counters`.

    Args:
        algorithm: The algorithm.
        iteration: Number of iterations so far.
        history: See :func:`episode_history`.
    """
    algorithm._iteration = iteration
    algorithm._episode_history = history


def skip_preprocessors(config: AlgorithmConfig) -> None:
    """Makes RLlib pass observations to the policy unchanged."""
    # AlgorithmConfig.experimental() can set it too, under the same private name.
    config._disable_preprocessor_api = True
    # RLlib's validation sets it here too. Set now, `model` still equals its default.
    config.model["_disable_preprocessor_api"] = True


def optimizers(policy: TorchPolicyV2) -> list[Any]:
    """Returns a policy's list of optimizers, in the order of ``optimizer()``."""
    return policy._optimizers


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
        function: Function to call with the runner, in the runner's process.
        tag: Tag of the requests; :func:`take_answers` finds the answers by it.
        runners: Ids of the runners; None: all healthy ones.
    """
    group._worker_manager.foreach_actor_async(
        function, tag=tag, remote_actor_ids=runners
    )


def take_answers(group: EnvRunnerGroup, tag: str, timeout_s: float) -> list[Any]:
    """Waits for answers to requests with this tag.

    Args:
        group: The runners.
        tag: The tag of the requests.
        timeout_s: Longest wait for all answers, in seconds. Then the answers that are
            there are returned.

    Returns:
        Objects with ``ok``, ``actor_id`` and ``get()``.
    """
    # EnvRunnerGroup.fetch_ready_async_reqs() drops answers that are errors.
    manager = group._worker_manager
    return list(manager.fetch_ready_async_reqs(tags=tag, timeout_seconds=timeout_s))


def num_unanswered(group: EnvRunnerGroup, tag: str) -> int:
    """Number of requests with this tag that have no answer yet."""
    count = group._worker_manager.num_outstanding_async_reqs
    # Ray 2.48 counts the requests of all tags. This package has only one tag
    # for each group of runners.
    return count(tag=tag) if "tag" in inspect.signature(count).parameters else count()
