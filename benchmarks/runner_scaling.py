"""Measures sampling with one and with eight env runners, on one node and on two.

A step of the environment sleeps for 20 ms. One runner can therefore make at most 50 env
steps per second, and eight can make 400, even on two cores. The algorithm trains at the
same time: the timed function is its ``training_step`` with ``overlap_sampling``.

The cluster is emulated on this machine: two nodes, each with its own Ray processes and
five logical CPUs. Script and configuration are the same as for one machine.

Run: ``python benchmarks/runner_scaling.py``
"""

from __future__ import annotations

import argparse
import time

import ray
from ray.cluster_utils import Cluster
from slow_env import EPISODE_STEPS, STEP_S

from rllib_risk.algorithms.vdn import VDNConfig

RUNNERS = 8
EPISODES_PER_ROUND = 4


def env_steps_per_s(num_runners: int, waves: int) -> float:
    """Trains VDN, and prints the nodes of its runners and their speed.

    Args:
        num_runners: Number of remote runners, with one environment each.
        waves: Number of timed rounds per runner.

    Returns:
        Env steps per second.
    """
    config = (
        VDNConfig()
        .environment("pettingzoo", env_config={"factory": "slow_env:SlowEnv"})
        .env_runners(num_env_runners=num_runners, num_envs_per_env_runner=1)
        .training(
            hidden_size=16,
            batch_size_episodes=8,
            learning_starts_episodes=8,
            overlap_sampling=True,
            episodes_per_round=EPISODES_PER_ROUND,
        )
        .debugging(seed=0)
    )
    algorithm = config.build_algo()
    nodes = algorithm.env_runner_group.foreach_env_runner(
        lambda runner: ray.get_runtime_context().get_node_id(), local_env_runner=False
    )
    names = {node: f"node {i + 1}" for i, node in enumerate(dict.fromkeys(nodes))}
    for runner, node in enumerate(nodes, start=1):
        print(f"  runner {runner} on {names[node]} ({node[:8]})")
    wave = num_runners * EPISODES_PER_ROUND * EPISODE_STEPS
    try:
        while algorithm.env_steps < 2 * wave:  # until all runners are working
            algorithm.training_step()
        # Runners that start together also end their rounds together, in waves. Only
        # whole waves are timed.
        before, start = algorithm.env_steps, time.perf_counter()
        while algorithm.env_steps < before + waves * wave:
            algorithm.training_step()
        rate = (algorithm.env_steps - before) / (time.perf_counter() - start)
    finally:
        algorithm.stop()
    print(f"  {num_runners} runners: {rate:.1f} env steps/s")
    return rate


def compare(waves: int) -> None:
    """Measures one and several runners and prints their ratio."""
    one = env_steps_per_s(1, waves)
    many = env_steps_per_s(RUNNERS, waves)
    share = many / one / RUNNERS
    print(
        f"  {RUNNERS} runners are {many / one:.2f} times as fast as one: {share:.2f} of"
        f" the ideal {RUNNERS}"
    )


def main() -> None:
    """Prints all measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--waves", type=int, default=15, help="timed rounds per runner (default 15)"
    )
    waves = parser.parse_args().waves
    print(f"A step takes {STEP_S * 1000:.0f} ms.")

    print("One node:")
    ray.init(num_cpus=RUNNERS + 2, include_dashboard=False, log_to_driver=False)
    compare(waves)
    ray.shutdown()

    print("Two nodes (emulated):")
    half = {"num_cpus": RUNNERS // 2 + 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=half)
    cluster.add_node(num_cpus=RUNNERS // 2 + 1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    compare(waves)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
