"""Measures env steps of `smax`: our rollout worker against a bare loop of JaxMARL.

Both play 32 battles at once. They run in turns, so that other work on the machine
affects both. The bare loop is the shortest one that could feed a learner. It has
JaxMARL's `step` (which restarts finished battles), observations, state and legal
actions, vectorised and compiled into one call. It draws random legal actions with NumPy
and stores nothing. Our worker plays whole episodes with QMIX's recurrent policy. It
explores with epsilon 1 (the network runs anyway) and stores everything that a replay
needs. The table shows env steps per second, without the time for compiling.

Run: ``python benchmarks/smax.py``
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import torch
from jaxmarl import make
from jaxmarl.environments.smax import map_name_to_scenario

from rllib_risk.algorithms import config_class
from rllib_risk.core.envs import make_env
from rllib_risk.core.rollout_worker import TeamRolloutWorker
from rllib_risk.core.value_policy import ValuePolicy

NUM_ENVS = 32
# A round must be long, for the same reason as in sampling.py.
EPISODES = 64 * NUM_ENVS
BARE_STEPS = 500
MAPS = ("3m", "5m_vs_6m", "10m_vs_11m")


class BareLoop:
    """The shortest loop that plays JaxMARL's env."""

    def __init__(self, map_name: str) -> None:
        """Compiles the loop.

        Args:
            map_name: A map of SMAX.
        """
        env = make("HeuristicEnemySMAX", scenario=map_name_to_scenario(map_name))

        def step(key: Any, state: Any, actions: Any) -> Any:
            chosen = {agent: actions[i] for i, agent in enumerate(env.agents)}
            obs, state, rewards, dones, _ = env.step(key, state, chosen)
            legal = env.get_avail_actions(state)
            rows = jax.numpy.stack([obs[agent] for agent in env.agents])
            mask = jax.numpy.stack([legal[agent] for agent in env.agents])
            reward = rewards[env.agents[0]]
            seen = rows, obs["world_state"], mask, reward, dones["__all__"]
            return state, seen

        self._split = jax.jit(partial(jax.random.split, num=NUM_ENVS + 1))
        self._step = jax.jit(jax.vmap(step))
        self._key = jax.random.PRNGKey(0)
        keys = self._split(self._key)
        _, self._state = jax.jit(jax.vmap(env.reset))(keys[1:])
        agents, actions = len(env.agents), env.num_movement_actions + env.num_enemies
        self._mask = np.zeros((NUM_ENVS, agents, actions))
        self._mask[..., env.num_movement_actions - 1] = 1  # stop is always legal
        self._rng = np.random.default_rng(0)
        self.play(2)  # the second call compiles again, with other types of the state

    def play(self, steps: int = BARE_STEPS) -> int:
        """Plays; returns the number of env steps."""
        for _ in range(steps):
            actions = (self._mask * self._rng.random(self._mask.shape)).argmax(-1)
            keys = self._split(self._key)
            self._key = keys[0]
            self._state, seen = self._step(keys[1:], self._state, actions)
            _, _, self._mask, _, _ = map(np.asarray, seen)
        return steps * NUM_ENVS


def make_worker(map_name: str) -> TeamRolloutWorker:
    """Builds our worker with QMIX's policy."""
    config = (
        config_class("QMIX")()
        .environment("smax", env_config={"map_name": map_name})
        .env_runners(num_envs_per_env_runner=NUM_ENVS)
        .debugging(seed=0)
    )
    return TeamRolloutWorker(
        env_creator=partial(make_env, config.copy()),
        default_policy_class=ValuePolicy,
        config=config,
        worker_index=0,
        num_workers=0,
    )


def rate(play: Callable[[], int]) -> float:
    """Returns env steps per second."""
    start = time.perf_counter()
    return play() / (time.perf_counter() - start)


def compare(map_name: str, repetitions: int) -> None:
    """Measures both sides in turns and prints a row of the table.

    Args:
        map_name: A map of SMAX.
        repetitions: Number of turns.
    """
    bare, worker = BareLoop(map_name), make_worker(map_name)

    def sample() -> int:
        return sum(len(e) for e in worker.sample(num_episodes=EPISODES))

    sample()
    bare.play()
    rates = [(rate(sample), rate(bare.play)) for _ in range(repetitions)]
    ours, theirs = (statistics.median(side) for side in zip(*rates, strict=True))
    ratio = statistics.median(a / b for a, b in rates)
    print(f"| {map_name} | {ours:,.0f} | {theirs:,.0f} | {ratio:.2f} |", flush=True)
    worker.stop()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--repetitions", type=int, default=5, help="number of turns (default 5)"
    )
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    print(f"{NUM_ENVS} battles at once; median of {repetitions} turns; env steps")
    print("| map | our worker, per s | bare loop, per s | ratio |")
    print("|---|---|---|---|")
    for map_name in MAPS:
        compare(map_name, repetitions)


if __name__ == "__main__":
    main()
