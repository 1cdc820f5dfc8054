"""Measures the memory growth of a long run in an env that crashes.

    PYTHONPATH=. .venv/bin/python benchmarks/soak.py [--steps 2500000] [--runners 0]

VDN learns `two_step`, in which one step in a thousand raises an exception. After each
iteration the script reads the resident memory of the driver and of every remote runner.
The growth in MB per minute is the slope of a least-squares line over the second half of
the run. In the first half the replay fills up, and the heap grows until it has a place
for every temporary array.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import time
from typing import Any

import numpy as np

ENV = "crashing_two_step"
WARM_UP = 0.5
STEPS_PER_ITERATION = 10_000


def resident_mb(worker: Any = None) -> float:
    """Returns the resident memory of the calling process in MB."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def make_env(context: Any) -> Any:
    """Builds a `two_step` game whose step raises with probability ``crash_rate``."""
    from rllib_risk.env_wrappers.registry import build_parallel_env, resolve

    rate = context["crash_rate"]
    env = build_parallel_env(*resolve("two_step", {})[:2])
    rng, step = np.random.default_rng(), env.step

    def crashing_step(actions: Any) -> Any:
        if rng.random() < rate:
            raise ConnectionError("the simulator died")
        return step(actions)

    env.step = crashing_step
    return env


def make_algorithm(runners: int, crash_rate: float) -> Any:
    """Builds the learner; Ray must be running."""
    from ray.tune import register_env

    from rllib_risk.algorithms import config_class

    register_env(ENV, make_env)
    config = config_class("VDN")().environment(
        ENV, env_config={"crash_rate": crash_rate}
    )
    config.env_runners(num_env_runners=runners, num_envs_per_env_runner=32)
    config.training(updates_per_episode=0.02, hidden_size=16, max_env_restarts=20)
    config.min_sample_timesteps_per_iteration = STEPS_PER_ITERATION
    config.evaluation_duration = 8
    return config.debugging(seed=0).build_algo()


def measure(
    algorithm: Any, steps: int, show: bool = True
) -> tuple[np.ndarray, np.ndarray, int]:
    """Trains and reads the memory after each iteration.

    Args:
        algorithm: The learner.
        steps: Number of env steps to train.
        show: Whether to print a line every ten iterations.

    Returns:
        Minutes [T], MB of the driver and of each remote runner [T, 1 + runners], and
        the number of lost episodes.
    """
    start = time.monotonic()
    minutes: list[float] = []
    memory: list[list[float]] = []
    while True:
        result = algorithm.train()
        remote = algorithm.env_runner_group.foreach_env_runner(
            resident_mb, local_env_runner=False
        )
        minutes.append((time.monotonic() - start) / 60)
        memory.append([resident_mb(), *remote])
        done = result["num_env_steps_sampled_lifetime"]
        lost = result["num_env_crashes_lifetime"]
        if show and len(minutes) % 10 == 1:
            shown = ", ".join(f"{mb:.1f}" for mb in memory[-1])
            print(f"{done:>9,} steps  {lost:>5} lost  {shown} MB", flush=True)
        if done >= steps:
            return np.array(minutes), np.array(memory), lost


def slopes(minutes: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Returns the growth of each process after the warm-up in MB per minute [P]."""
    first = int(WARM_UP * len(minutes))
    return np.polyfit(minutes[first:], memory[first:], 1)[0]


def main() -> None:
    """Runs the benchmark from the command line."""
    import ray

    import rllib_risk

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--steps", type=int, default=2_500_000, help="env steps (default 2500000)"
    )
    parser.add_argument(
        "--runners", type=int, default=0, help="number of remote runners (default 0)"
    )
    parser.add_argument(
        "--crash-rate",
        type=float,
        default=1e-3,
        help="probability that a step raises (default 0.001)",
    )
    args = parser.parse_args()
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init("local", num_cpus=args.runners + 1, include_dashboard=False)
    rllib_risk.register()
    algorithm = make_algorithm(args.runners, args.crash_rate)
    minutes, memory, lost = measure(algorithm, args.steps)
    algorithm.stop()
    ray.shutdown()
    print(f"{lost} episodes were lost in {minutes[-1]:.1f} minutes")
    for index, slope in enumerate(slopes(minutes, memory)):
        name = f"runner {index}" if index else "driver"
        print(
            f"{name}: {memory[-1, index]:.1f} MB at the end, {slope:+.3f} MB per minute"
        )


if __name__ == "__main__":
    main()
