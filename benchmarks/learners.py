"""RMIX updates at the size of 5m_vs_6m with several learners, and where time goes.

The same batch goes to one learner and to several, in turns. The table shows wall-clock
time and the CPU time of the trial's own process (learner 0). If other processes use the
cores, only the CPU time shows how fast the update is on free cores. A batch with very
few steps shows the cost of splitting, sending and adding up.

Run: ``python benchmarks/learners.py``
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import ray
from update import K, M, make_policy, random_episodes

from rllib_risk.algorithms.rmix import RMIXConfig
from rllib_risk.core.gradient import Share
from rllib_risk.core.learners import LearnerGroup, state_of
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.splitting import split_batch

STEPS = {"CVaR": "learn_on_batch", "quantile": "learn_quantiles_on_batch"}


def short_episodes(number: int, like: Episode) -> list[Episode]:
    """Returns episodes of one step.

    Args:
        number: Number of episodes.
        like: Episode whose first step they repeat.
    """
    rows = {key: getattr(like, key)[:2] for key in ("obs", "state", "action_mask")} | {
        key: getattr(like, key)[:1] for key in ("actions", "rewards", "risk_levels")
    }
    return [Episode(**rows, terminated=True) for _ in range(number)]


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns wall-clock time and CPU time of this process, in seconds."""
    start, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - used


def megabytes(arrays: Mapping[str, np.ndarray]) -> float:
    """Returns the size of a part of a batch in MB."""
    return sum(array.nbytes for array in arrays.values()) / 1e6


def shrinking(turns: int) -> None:
    """Prints the cost of forward and backward pass for smaller and smaller parts.

    The cost that does not shrink with the part limits how many learners help.

    Args:
        turns: Number of repetitions.
    """
    policy = make_policy()
    batch = collate(random_episodes(np.random.default_rng(0)))
    print("| step | part of the batch | CPU s | of the whole | ideal |")
    print("|---|---|---|---|---|")
    for name, method in STEPS.items():
        whole = 0.0
        for number in (1, 2, 4, 8, 16):
            part, rows = split_batch(batch, number)[0]
            policy.share = Share(rows, lambda gradients: False, lambda tensors: None)
            learn = functools.partial(getattr(policy, method), part)
            learn()
            used = statistics.median(timed(learn)[1] for _ in range(turns))
            policy.share = None
            whole = whole or used
            print(
                f"| {name} | 1/{number} | {used:.4f} | {used / whole:.3f}"
                f" | {rows.weight:.3f} |",
                flush=True,
            )


def compare(number: int, turns: int) -> None:
    """Prints a row of the table for each kind of step.

    Args:
        number: Number of learners.
        turns: Number of updates of each kind.
    """
    one, policy = make_policy(), make_policy()
    config = RMIXConfig().training(num_atoms=M, risk_levels=K)
    group = LearnerGroup(policy, config.learners(num_learners=number))
    episodes = random_episodes(np.random.default_rng(0))
    batch = collate(episodes)
    tiny = collate(short_episodes(number, episodes[0]))
    sent = megabytes(split_batch(batch, number)[1][0])
    state = sum(t.nbytes for t in state_of(policy)) / 1e6
    gradient = sum(p.nbytes for p in policy.network.parameters()) / 1e6
    print(
        f"{number} learners; each is sent {sent:.2f} MB of the batch and {state:.2f} MB"
        f" of parameters, and gives {gradient:.2f} MB of gradient",
        flush=True,
    )
    print(
        "| step | one, s | several, s | ratio | one, CPU s | learner 0, CPU s | ratio"
        " | an update of nothing, least ms | parts, median ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, method in STEPS.items():
        learn = functools.partial(group.learn, method, env_steps=0)
        alone = functools.partial(getattr(one, method), batch)
        learn(batch)
        alone()
        own, several, empty, parts = [], [], [], []
        for _ in range(turns):
            own.append(timed(alone))
            several.append(timed(functools.partial(learn, batch)))
            parts.append(group.seconds)
            empty.append(timed(functools.partial(learn, tiny))[0])
        cells = []
        for kind in (0, 1):
            pairs = [(a[kind], b[kind]) for a, b in zip(own, several, strict=True)]
            cells += [f"{statistics.median(of):.3f}" for of in zip(*pairs, strict=True)]
            cells.append(f"{statistics.median(a / b for a, b in pairs):.2f}")
        where = (
            f"{key} {1e3 * statistics.median(p[key] for p in parts):.1f}"
            for key in parts[0]
        )
        row = (name, *cells, f"{1e3 * min(empty):.1f}", ", ".join(where))
        print(f"| {' | '.join(row)} |", flush=True)
    group.stop()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learners", type=int, nargs="+", default=[2])
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.1f} before; {arguments.turns} turns")
    shrinking(arguments.turns)
    ray.init(
        "local",
        num_cpus=max(arguments.learners),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    for number in arguments.learners:
        compare(number, arguments.turns)
    print(f"load {os.getloadavg()[0]:.1f} after")
    ray.shutdown()


if __name__ == "__main__":
    main()
