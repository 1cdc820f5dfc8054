"""Everything of Ray that is not public, in one place.

The rest of the package uses Ray's public API and the classes of RLlib's old API stack
that it extends. What else it needs is here, one small function each, with a comment
that says what the function touches. Checked with Ray 2.48 to 2.60 by
``tools/check_ray_versions.py``. Ray is imported inside the functions, so that a program
can set its environment variables first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

# Remote runners


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
    # EnvRunnerGroup.foreach_env_runner_async has no answers with the runner's id.
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
    # Ray before 2.49 counts the requests of all tags. This package has only one tag
    # for each group of runners.
    return count(tag=tag) if "tag" in inspect.signature(count).parameters else count()
