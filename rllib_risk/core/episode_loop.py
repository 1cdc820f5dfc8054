"""The loop that plays whole episodes in several environments at once.

Who plays is one argument: see :mod:`rllib_risk.core.players`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.core.callbacks import EpisodeHooks
from rllib_risk.core.envs import env_name
from rllib_risk.core.players import Player
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import row_arrays
from rllib_risk.data.sizes import TeamSpec
from rllib_risk.env_wrappers.errors import EnvContractError, NonFiniteError
from rllib_risk.env_wrappers.team_env import BatchedStep, BatchedTeamEnv

T = TypeVar("T")

# Environment seeds of evaluations lie in a range of their own.
SEED_RANGE = 2**30
# First word of the random streams of evaluations.
EVAL_STREAM = 2
# How a crash text begins when the environment gave NaN or infinity.
_NON_FINITE = NonFiniteError.__name__


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keeps PyTorch to one thread, as Ray does in remote runners.

    The matrices of a step are so small that a second thread brings next to nothing, and
    where another process wants that core, waiting for it makes a step tens of times
    slower.
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
) -> tuple[list[Episode], int]:
    """Plays one episode per seed; a free environment takes the next.

    Args:
        config: Its limits count: ``max_episode_steps`` and ``on_nonfinite``.
        envs: Where; what they were doing before is forgotten.
        player: Who, at the beginning of as many episodes as there are environments.
        seeds: Of the episodes' environments, ``[R]``.
        rng: Draws the seeds of episodes that are played again after a crash.
        store: Memory to use, from an earlier call for the same environments.
        hooks: Callbacks to call; None: there are none.

    Returns:
        The episodes, in the order of their seeds, and how often one was lost.

    Raises:
        EnvContractError: If an episode does not end.
        NonFiniteError: If an environment gives NaN that must not be skipped.
    """
    store = store or EpisodeStore(envs.spec, envs.num_envs)
    used = min(len(seeds), envs.num_envs)
    first = envs.order[:used]
    playing = np.full(envs.num_envs, -1)  # index of the episode in each slot
    playing[first] = np.arange(used)
    active = playing >= 0
    waiting = list(range(used, len(seeds)))[::-1]
    finished: dict[int, Episode] = {}
    steps_done = crashes = 0
    envs.expect(seeds)
    if hooks is not None:
        hooks.create(first)
    envs.reset(first, seeds[:used])
    if hooks is not None:
        hooks.start(first)
    store.time[:] = 0

    while len(finished) < len(seeds):
        store.write_rows(envs)
        actions, levels = player.act(envs.obs, envs.action_mask)
        step = envs.step(actions, active)
        store.write_steps(actions, step.rewards, levels, active)
        check_length(config, int(store.time.max()))
        ended = active & (step.terminateds | step.truncateds)
        lost = sorted(lost_episodes(config, step))
        if hooks is not None:
            hooks.step(actions, step, active, lost)
        if not (ended.any() or lost):
            continue

        again, again_seeds = [], []
        for slot in np.flatnonzero(ended).tolist():
            if slot in lost:
                continue
            terminated = bool(step.terminateds[slot])
            episode = store.take(slot, envs, terminated, step.infos[slot])
            if hooks is not None:
                episode.metrics.update(hooks.end(slot))
            finished[int(playing[slot])] = episode
            steps_done += len(episode)
            active[slot] = bool(waiting)
            if waiting:
                playing[slot] = waiting.pop()
                again.append(slot)
                again_seeds.append(seeds[playing[slot]])
            store.time[slot] = 0
        for slot in lost:
            # Same episode, another seed: the old one may crash each time.
            crashes += 1
            store.time[slot] = 0
            again.append(slot)
            again_seeds.append(retry_seed(seeds[playing[slot]], rng))
        if again:
            restart = np.array(again)
            if hooks is not None:
                hooks.create(restart)
            envs.reset(restart, np.array(again_seeds))
            if hooks is not None:
                hooks.start(restart)
            player.reset(restart, steps_done)
    return [finished[i] for i in range(len(seeds))], crashes


def evaluation_seed(seed: int, index: int) -> int:
    """The environment seed of one evaluation episode; never one of training's.

    Args:
        seed: Of the evaluation.
        index: Of the episode.

    Returns:
        A number in [2^30, 2^31).
    """
    rng = np.random.default_rng((seed, EVAL_STREAM, index))
    return SEED_RANGE + int(rng.integers(SEED_RANGE))


def retry_seed(seed: int, rng: np.random.Generator) -> int:
    """Another environment seed for an episode that was lost.

    Args:
        seed: The one that it had, of training or of an evaluation.
        rng: Draws the new one.

    Returns:
        A seed in the same range.
    """
    base = SEED_RANGE if seed >= SEED_RANGE else 0
    return base + int(rng.integers(SEED_RANGE))


def until_whole(play: Callable[[int], T | None], seed: int, index: int = 0) -> T:
    """Plays one evaluation episode, with another seed if it was lost.

    Args:
        play: Plays an episode with an environment seed; None: it was lost.
        seed: Of the evaluation.
        index: Of the episode in it.

    Returns:
        What ``play`` returned.
    """
    rng = np.random.default_rng((seed, EVAL_STREAM))
    env_seed = evaluation_seed(seed, index)
    while (played := play(env_seed)) is None:
        env_seed = retry_seed(env_seed, rng)
    return played


def check_length(config: AlgorithmConfig, steps: int) -> None:
    """Refuses an episode that does not end.

    Args:
        config: Its ``max_episode_steps`` is the limit.
        steps: Of the longest running episode.

    Raises:
        EnvContractError: If it is too long.
    """
    limit = config.max_episode_steps
    if steps > limit:
        raise EnvContractError(
            f"env '{config.env}': an episode has not ended after {limit} steps. Give"
            " the environment a time limit (truncation), or raise max_episode_steps."
        )


def lost_episodes(config: AlgorithmConfig, step: BatchedStep) -> dict[int, str]:
    """Which episodes must be thrown away after a step.

    Args:
        config: Its ``on_nonfinite`` says what NaN does.
        step: What the step returned.

    Returns:
        Slot and reason: it crashed, or gave NaN or infinity.

    Raises:
        NonFiniteError: If NaN or infinity must not be skipped.
    """
    if step.crashed and config.on_nonfinite == "raise":
        bad = [t for t in step.crashed.values() if t.startswith(_NON_FINITE)]
        if bad:
            raise NonFiniteError(
                f"env '{env_name(config)}': {bad[0]}. Fix the environment, or set"
                " on_nonfinite: skip_episode to lose such episodes."
            )
    return step.crashed


def numbers_of(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers and flags in what an environment reports at the end."""
    return {
        key: float(value)
        for key, value in info.items()
        if isinstance(value, (bool, int, float, np.bool_, np.number))
    }


class EpisodeStore:
    """Preallocated arrays for the running episodes, as long as the longest so far.

    Attributes:
        on_steps: Called at every step with the env steps that were just played.
    """

    def __init__(self, spec: TeamSpec, num_envs: int) -> None:
        """Makes room; see :func:`play_episodes`."""
        self.time = np.zeros(num_envs, np.int64)
        self.slots = np.arange(num_envs)
        self.on_steps: Callable[[int], None] = lambda steps: None
        kept = row_arrays(
            spec.num_agents, spec.num_actions, spec.obs_size, spec.state_size
        )
        self.arrays: dict[str, np.ndarray] = {
            name: np.zeros((num_envs, 1, *shape), kind)
            for name, (shape, kind) in kept.items()
        }
        self._grow(spec.episode_limit or 64)

    def _grow(self, steps: int) -> None:
        for key, old in self.arrays.items():
            new = np.zeros((old.shape[0], steps + 1, *old.shape[2:]), old.dtype)
            new[:, : old.shape[1]] = old
            self.arrays[key] = new

    def write_rows(self, envs: BatchedTeamEnv) -> None:
        """What the agents see now."""
        # One row beyond the step that follows must stay free for the last observation.
        if self.time.max() + 2 > self.arrays["obs"].shape[1]:
            self._grow(2 * self.arrays["obs"].shape[1])
        at = (self.slots, self.time)
        self.arrays["obs"][at] = envs.obs
        self.arrays["state"][at] = envs.state
        self.arrays["action_mask"][at] = envs.action_mask

    def write_steps(
        self, actions: np.ndarray, rewards: np.ndarray, levels: Any, active: np.ndarray
    ) -> None:
        """What they did and got."""
        at = (self.slots, self.time)
        self.arrays["actions"][at] = actions
        self.arrays["rewards"][at] = rewards
        self.arrays["risk_levels"][at] = levels
        self.time += active
        self.on_steps(int(np.count_nonzero(active)))

    def take(
        self, slot: int, envs: BatchedTeamEnv, terminated: bool, info: dict[str, Any]
    ) -> Episode:
        """Copies a finished episode out."""
        steps = int(self.time[slot])
        a = self.arrays
        a["obs"][slot, steps] = envs.obs[slot]
        a["state"][slot, steps] = envs.state[slot]
        a["action_mask"][slot, steps] = envs.action_mask[slot]
        return Episode(
            obs=a["obs"][slot, : steps + 1].copy(),
            state=a["state"][slot, : steps + 1].copy(),
            action_mask=a["action_mask"][slot, : steps + 1].copy(),
            actions=a["actions"][slot, :steps].copy(),
            rewards=a["rewards"][slot, :steps].copy(),
            terminated=terminated,
            risk_levels=a["risk_levels"][slot, :steps].copy(),
            metrics=numbers_of(info),
        )
