"""Sampling and evaluation on remote runners, which may be lost at any time."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_risk.core import ray_internals
from rllib_risk.core.rollout_worker import EnvReport, TeamRolloutWorker
from rllib_risk.core.stopwatch import IDLE
from rllib_risk.data.episodes import Episode
from rllib_risk.env_wrappers.errors import EnvConfigError, EnvError

if TYPE_CHECKING:
    from rllib_risk.core.algorithm import TeamAlgorithm

logger = logging.getLogger(__name__)

_TAG = "rllib_risk_sample"
_WAIT_S = 0.5


def sample_everywhere(
    algorithm: TeamAlgorithm, round_index: int, *, overlap: bool
) -> list[Episode]:
    """Plays one round on all remote runners.

    Without overlap, every runner gets the newest weights and plays its round, and the
    call waits for all of them. The same seed then gives the same episodes in the same
    order. With overlap, every runner always has a second round in its queue, so that it
    is not idle while the learner learns.

    Args:
        algorithm: Algorithm that owns the runners, weights and counters.
        round_index: Number of the round.
        overlap: Whether sampling overlaps learning.

    Returns:
        Episodes of at least one runner. Those of lost runners are missing.

    Raises:
        EnvFailedError: If an environment fails too often.
        RuntimeError: If a runner is lost too often, or all runners stay lost.
    """
    group = algorithm.env_runner_group
    deadline = time.monotonic() + algorithm.config.env_runner_restore_timeout_s
    while True:
        if not overlap:
            _sync(algorithm, group, None)
            _dispatch(group, round_index, None)
        else:
            _dispatch_ahead(group, round_index, None)
        ready = _collect(algorithm, group, wait_for_all=not overlap)
        if ready:
            break
        algorithm.replace_lost_runners(group)
        if time.monotonic() > deadline:
            raise RuntimeError("All env runners are lost and none came back.")
        time.sleep(_WAIT_S)
    if overlap:
        idle = sorted({runner for runner, _ in ready})
        _sync(algorithm, group, idle)
        _dispatch_ahead(group, round_index + 1, idle)
    answers = [answer for _, answer in sorted(ready, key=lambda pair: pair[0])]
    return [episode for played in answers for episode in played]


def play_everywhere(
    algorithm: TeamAlgorithm,
    group: EnvRunnerGroup,
    num_episodes: int,
    seed: int,
    thresholds: Sequence[float] | None = None,
) -> list[Episode]:
    """Plays evaluation episodes ``0 .. num_episodes - 1`` on the remote runners.

    The healthy runners play the episodes of a lost runner.

    Args:
        algorithm: Algorithm that owns the configuration and restores lost runners.
        group: The evaluation runners.
        num_episodes: Number of episodes.
        seed: Seed of the evaluation.
        thresholds: See :meth:`.TeamRolloutWorker.evaluate_episodes`.

    Returns:
        Exactly ``num_episodes`` episodes, in order.

    Raises:
        EnvFailedError: If an environment fails too often.
        RuntimeError: If a runner is lost too often, or all runners stay lost.
    """
    done: dict[int, Episode] = {}
    deadline = time.monotonic() + algorithm.config.env_runner_restore_timeout_s
    while len(done) < num_episodes:
        runners = group.healthy_env_runner_ids()
        missing = [i for i in range(num_episodes) if i not in done]
        shares = {r: missing[k :: len(runners)] for k, r in enumerate(runners)}
        shares = {r: share for r, share in shares.items() if share}
        for runner, share in shares.items():
            evaluate = functools.partial(
                _evaluate, indices=share, seed=seed, thresholds=thresholds
            )
            ray_internals.call_runners(group, evaluate, _TAG, [runner])
        for runner, episodes in _collect(algorithm, group, wait_for_all=True):
            done.update(zip(shares[runner], episodes, strict=True))
        if len(done) < num_episodes:
            if algorithm.replace_lost_runners(group):
                group.sync_weights(
                    from_worker_or_learner_group=algorithm.env_runner,
                    global_vars={"timestep": algorithm.env_steps},
                )
            if time.monotonic() > deadline:
                raise RuntimeError("All evaluation runners are lost; none came back.")
            time.sleep(_WAIT_S)
    return [done[i] for i in range(num_episodes)]


def _sample(
    worker: TeamRolloutWorker, round_index: int
) -> tuple[list[Episode], EnvReport]:
    episodes, watch = worker.sample(round_index), worker.stopwatch
    report = worker.take_report()._replace(seconds=watch.take())
    watch.switch(IDLE)
    return episodes, report


def _evaluate(
    worker: TeamRolloutWorker,
    indices: list[int],
    seed: int,
    thresholds: Sequence[float] | None,
) -> tuple[list[Episode], EnvReport]:
    played = worker.evaluate_episodes(indices, seed, thresholds)
    return played, worker.take_report()


def _sync(
    algorithm: TeamAlgorithm, group: EnvRunnerGroup, runners: list[int] | None
) -> None:
    group.sync_weights(
        to_worker_indices=runners,
        global_vars={"timestep": algorithm.env_steps},
    )


def _dispatch(
    group: EnvRunnerGroup, round_index: int, runners: list[int] | None
) -> None:
    sample = functools.partial(_sample, round_index=round_index)
    ray_internals.call_runners(group, sample, _TAG, runners)


def _dispatch_ahead(
    group: EnvRunnerGroup, round_index: int, runners: list[int] | None
) -> None:
    """Fills each runner's queue to two rounds with different round numbers."""
    for ahead in range(2):
        _dispatch(group, 2 * round_index + ahead, runners)


def _collect(
    algorithm: TeamAlgorithm, group: EnvRunnerGroup, *, wait_for_all: bool
) -> list[tuple[int, list[Episode]]]:
    """Collects episodes by runner; those of a lost runner are missing.

    Args:
        algorithm: Algorithm that owns the runners and receives their reports.
        group: The runners.
        wait_for_all: Whether to wait for all outstanding requests instead of one.

    Raises:
        RuntimeError: If a runner is lost too often. An error of an environment is
            raised unchanged.
    """
    results: list[tuple[int, list[Episode]]] = []
    while ray_internals.num_unanswered(group, _TAG):
        for answer in ray_internals.take_answers(group, _TAG, _WAIT_S):
            if answer.ok:
                episodes, report = answer.get()
                algorithm.count_report(report)
                algorithm.runner_answered(group, answer.actor_id)
                results.append((answer.actor_id, episodes))
            else:
                cause = _raise_unless_lost(answer.actor_id, answer.get())
                algorithm.runner_lost(group, answer.actor_id, cause)
        if results and not wait_for_all:
            break
    return results


def _raise_unless_lost(runner: int, error: Exception) -> str:
    if isinstance(error, RayTaskError):
        if isinstance(error.cause, (EnvConfigError, EnvError)):
            raise error.cause from error  # its text names env, place and cause
        cause = error.as_instanceof_cause()
        if not isinstance(cause, RayActorError):
            raise cause
    if not isinstance(error, RayError):
        raise error
    cause = str(error).splitlines()[0]
    logger.warning("Env runner %d was lost: %s", runner, cause)
    return cause
