"""Measures sampling in MACN with RMIX: our rollout worker against RLlib's own.

Both workers are in this process and have the same policy class and configuration: 100
atoms, a predicted risk level, MACN 4x7, epsilon 1. They run in turns, so that other
work on the machine affects both. The table shows env steps per second of wall-clock
time and of this process's CPU time, on one thread.

Run: ``python benchmarks/sampling.py``
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from ray.rllib.evaluation.rollout_worker import RolloutWorker

from rllib_risk.algorithms.rmix import RMIXConfig
from rllib_risk.core.envs import make_env
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.core.value_policy import ValuePolicy

# A round must be long: near its end fewer and fewer environments still play, which
# lowers the rate. (Rounds of a training run end in the same way.)
EPISODES_PER_ENV = 64
RLLIB_STEPS = 800


def make_worker(worker_class: type[RolloutWorker], num_envs: int) -> RolloutWorker:
    """Builds a local worker with its own policy and environments.

    Args:
        worker_class: RLlib's class or ours.
        num_envs: Number of environments.

    Returns:
        The worker.
    """
    config = (
        RMIXConfig()
        .environment("macn")
        .env_runners(env_runner_cls=worker_class, num_envs_per_env_runner=num_envs)
        .debugging(seed=0)
    )
    # Our configurations refuse this key, because they never cut episodes.
    config.rollout_fragment_length = RLLIB_STEPS // num_envs
    return worker_class(
        env_creator=functools.partial(make_env, config.copy()),
        default_policy_class=ValuePolicy,
        config=config,
        worker_index=0,
        num_workers=0,
    )


def check_rllib_batch(worker: RolloutWorker, num_envs: int) -> None:
    """Checks that RLlib's worker plays correctly: actions, array sizes, episode ends.

    Args:
        worker: RLlib's worker.
        num_envs: Number of its environments.

    Raises:
        AssertionError: If a check fails.
    """
    batch = worker.sample()
    assert batch.env_steps() == RLLIB_STEPS // num_envs * num_envs
    rows = batch.policy_batches["default_policy"]
    assert rows["actions"].shape == (batch.env_steps(), 2)
    assert set(np.unique(rows["actions"])) <= {0, 1, 2, 3}
    assert rows["terminateds"].any(), "no episode ended"
    lengths = np.diff(np.flatnonzero(rows["terminateds"] | rows["truncateds"]))
    # At the start only two of an agent's four moves are safe, so episodes are short.
    assert 2.0 < lengths.mean() < 8.0, lengths.mean()


def timed(sample: Callable[[], int]) -> tuple[float, float]:
    """Returns env steps per second of wall-clock time and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    steps = sample()
    return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def compare(num_envs: int, repetitions: int) -> None:
    """Measures both workers in turns and prints a row of the table.

    Args:
        num_envs: Number of environments per worker.
        repetitions: Number of turns.
    """
    ours = make_worker(TeamRolloutWorker, num_envs)
    theirs = make_worker(RolloutWorker, num_envs)
    episodes = EPISODES_PER_ENV * max(num_envs, 4)

    def sample_ours() -> int:
        return sum(len(e) for e in ours.sample(num_episodes=episodes))

    def sample_theirs() -> int:
        return theirs.sample().env_steps()

    check_rllib_batch(theirs, num_envs)
    sample_ours()
    results = [(timed(sample_ours), timed(sample_theirs)) for _ in range(repetitions)]
    cells = []
    for clock in (0, 1):
        fast = statistics.median(o[clock] for o, _ in results)
        slow = statistics.median(t[clock] for _, t in results)
        ratio = statistics.median(o[clock] / t[clock] for o, t in results)
        cells += [f"{fast:9.0f}", f"{slow:8.0f}", f"{ratio:6.1f}"]
    print(f"| {num_envs:4d} | " + " | ".join(cells) + " |", flush=True)
    ours.stop()
    theirs.stop()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of turns (default 5)"
    )
    repetitions = parser.parse_args().repetitions
    # Our worker sets this itself. With more threads and another process on the same
    # cores, RLlib's worker would be several times slower.
    torch.set_num_threads(1)
    print(f"one torch thread; median of {repetitions} turns")
    print("| envs | ours/s | RLlib/s | ratio | ours/CPU s | RLlib/CPU s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for num_envs in (1, 8, 32):
        compare(num_envs, repetitions)


if __name__ == "__main__":
    main()
