"""Rounds of whole episodes, in several environments at once.

The loop itself is :class:`rllib_risk.env_wrappers.episode_loop.EpisodeLoop`. This
module runs it for training and evaluation, and stores the episodes. Players are in
:mod:`rllib_risk.core.players`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.envs import env_name
from rllib_risk.core.episode_hooks import EpisodeHooks
from rllib_risk.core.stopwatch import ACTING, ENVIRONMENT, Stopwatch
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import row_arrays
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.episode_loop import (
    SEED_RANGE,
    EpisodeLimits,
    EpisodeLoop,
    EpisodeObserver,
    Player,
    numbers_of,
)
from rllib_risk.env_wrappers.team_env import BatchedStep, BatchedTeamEnv

# Seed word of the random streams of evaluations.
_EVAL_STREAM = 2


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limits PyTorch to one thread, as Ray does in remote runners.

    The matrices of a step are so small that a second thread hardly helps. If another
    process uses that core, waiting for it makes a step tens of times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def play_episodes(
    config: AlgorithmConfig,
    envs: BatchedTeamEnv,
    player: Player,
    seeds: np.ndarray,
    rng: np.random.Generator,
    store: EpisodeStore | None = None,
    hooks: EpisodeHooks | None = None,
    stopwatch: Stopwatch | None = None,
) -> tuple[list[Episode], int]:
    """Plays one episode per seed; a free environment takes the next.

    Args:
        config: Configuration; ``max_episode_steps`` is used.
        envs: Environments to play in. Their running episodes are dropped.
        player: Chooses the actions. It must be at the start of an episode in every
            environment.
        seeds: Environment seeds of the episodes, ``[R]``.
        rng: Draws the seeds of episodes that are played again after a crash.
        store: Arrays of an earlier call for the same environments. None: new arrays.
        hooks: Callbacks to call. None: no callbacks.
        stopwatch: Measures acting and environment separately. None: no measurement.

    Returns:
        The episodes, in the order of their seeds, and the number of lost episodes.

    Raises:
        EnvContractError: If an episode does not end.
        EnvFailedError: If an environment fails too often.
        NonFiniteError: If an environment gives NaN that must not be skipped.
    """
    store = store or EpisodeStore(envs.spec, envs.num_envs)
    kept = _Kept(store, hooks, stopwatch or Stopwatch())
    loop = EpisodeLoop(envs, player, seeds, rng, limits_of(config), kept)
    loop.play()
    return [kept.episodes[index] for index in range(len(seeds))], loop.crashes


@one_thread()
def play_evaluation(
    config: AlgorithmConfig,
    envs: BatchedTeamEnv,
    player: Player,
    seed: int,
    index: int,
    observer: EpisodeObserver,
) -> None:
    """Plays one episode of an evaluation for an observer.

    Args:
        config: See :func:`play_episodes`.
        envs: See :func:`play_episodes`.
        player: See :func:`play_episodes`.
        seed: Seed of the evaluation.
        index: Index of the episode in the evaluation.
        observer: Records the episode, including lost attempts that are played again.

    Raises:
        EnvContractError: See :func:`play_episodes`.
        EnvFailedError: See :func:`play_episodes`.
        NonFiniteError: See :func:`play_episodes`.
    """
    seeds = np.array([evaluation_seed(seed, index)])
    rng = evaluation_rng(seed)
    EpisodeLoop(envs, player, seeds, rng, limits_of(config), observer).play()


def limits_of(config: AlgorithmConfig) -> EpisodeLimits:
    """Returns the limits of a configuration for playing episodes.

    Args:
        config: Configuration; its environment and ``max_episode_steps`` are used.
    """
    return EpisodeLimits(
        env_name=env_name(config),
        max_steps=config.max_episode_steps,
    )


def evaluation_seed(seed: int, index: int) -> int:
    """Returns the environment seed of an evaluation episode; training never uses it.

    Args:
        seed: Seed of the evaluation.
        index: Index of the episode in the evaluation.

    Returns:
        A number in [2^30, 2^31).
    """
    rng = np.random.default_rng((seed, _EVAL_STREAM, index))
    return SEED_RANGE + int(rng.integers(SEED_RANGE))


def evaluation_rng(seed: int) -> np.random.Generator:
    """Creates the generator of new seeds for lost episodes of an evaluation.

    Args:
        seed: Seed of the evaluation.
    """
    return np.random.default_rng((seed, _EVAL_STREAM))


class EpisodeStore:
    """Preallocated arrays for the running episodes; they grow for longer episodes.

    Attributes:
        on_steps: Called at every step with the env steps that were just played.
    """

    def __init__(self, spec: TeamSpec, num_envs: int) -> None:
        """Allocates the arrays for ``num_envs`` environments."""
        self.slots = np.arange(num_envs)
        self.on_steps: Callable[[int], None] = lambda steps: None
        self.arrays: dict[str, np.ndarray] = {
            name: np.zeros((num_envs, 1, *shape), kind)
            for name, (shape, kind) in row_arrays(spec).items()
        }
        self._grow(spec.episode_limit or 64)

    def _grow(self, steps: int) -> None:
        for key, old in self.arrays.items():
            new = np.zeros((old.shape[0], steps + 1, *old.shape[2:]), old.dtype)
            new[:, : old.shape[1]] = old
            self.arrays[key] = new

    def write_rows(
        self, loop: EpisodeLoop, actions: np.ndarray, levels: np.ndarray | float
    ) -> None:
        """Writes what the agents observe and do in a step."""
        # One more row must stay free for the observation after this step.
        if loop.longest + 2 > self.arrays["obs"].shape[1]:
            self._grow(2 * self.arrays["obs"].shape[1])
        at = (self.slots, loop.time)
        self.arrays["obs"][at] = loop.envs.obs
        self.arrays["state"][at] = loop.envs.state
        self.arrays["action_mask"][at] = loop.envs.action_mask
        self.arrays["actions"][at] = actions
        self.arrays["risk_levels"][at] = levels

    def write_rewards(self, loop: EpisodeLoop, rewards: np.ndarray) -> None:
        """Writes the rewards of a step, and calls :attr:`on_steps`."""
        self.arrays["rewards"][self.slots, loop.time] = rewards
        self.on_steps(int(np.count_nonzero(loop.active)))

    def take(self, loop: EpisodeLoop, slot: int, step: BatchedStep) -> Episode:
        """Copies a finished episode out of the arrays."""
        steps = int(loop.time[slot])
        a, envs = self.arrays, loop.envs
        a["obs"][slot, steps] = envs.obs[slot]
        a["state"][slot, steps] = envs.state[slot]
        a["action_mask"][slot, steps] = envs.action_mask[slot]
        return Episode(
            obs=a["obs"][slot, : steps + 1].copy(),
            state=a["state"][slot, : steps + 1].copy(),
            action_mask=a["action_mask"][slot, : steps + 1].copy(),
            actions=a["actions"][slot, :steps].copy(),
            rewards=a["rewards"][slot, :steps].copy(),
            terminated=bool(step.terminateds[slot]),
            risk_levels=a["risk_levels"][slot, :steps].copy(),
            metrics=numbers_of(step.infos[slot]),
        )


class _Kept(EpisodeObserver):
    """Keeps whole episodes by index, with the metrics of the callbacks.

    It also measures acting and environment, because the loop calls it between them.
    """

    def __init__(
        self, store: EpisodeStore, hooks: EpisodeHooks | None, stopwatch: Stopwatch
    ) -> None:
        self.episodes: dict[int, Episode] = {}
        self._switch = stopwatch.switch
        self._store = store
        self._hooks = hooks

    def created(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        if self._hooks is not None:
            self._hooks.create(slots)
        self._switch(ENVIRONMENT)

    def started(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        self._switch(ACTING)
        if self._hooks is not None:
            self._hooks.start(slots)

    def acted(
        self, loop: EpisodeLoop, actions: np.ndarray, levels: np.ndarray | float
    ) -> None:
        self._store.write_rows(loop, actions, levels)
        self._switch(ENVIRONMENT)

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        self._switch(ACTING)
        self._store.write_rewards(loop, step.rewards)
        if self._hooks is not None:
            self._hooks.step(actions, step, loop.active)

    def ended(self, loop: EpisodeLoop, slot: int, step: BatchedStep) -> None:
        episode = self._store.take(loop, slot, step)
        if self._hooks is not None:
            episode.metrics.update(self._hooks.end(slot))
        self.episodes[int(loop.playing[slot])] = episode
