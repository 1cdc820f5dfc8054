"""The loop that plays whole episodes, for training, evaluation and checks.

A `Player` chooses the actions. An `EpisodeObserver` records the episodes.

Letters: `E` environments, `N` agents, `A` actions, `D` observation size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rllib_risk.env_wrappers.batched_env import (
    BatchedStep,
    BatchedTeamEnv,
    slots_where,
)
from rllib_risk.env_wrappers.errors import EnvContractError
from rllib_risk.env_wrappers.team_env import TeamEnv

# Environment seeds of training lie below this number; those of evaluations start at it.
SEED_RANGE = 2**30
# Default of `max_episode_steps`. A longer episode counts as one that never ends.
MAX_EPISODE_STEPS = 20_000


class Player(Protocol):
    """Chooses the actions in several environments at once."""

    def act(
        self, obs: np.ndarray, action_mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """Chooses the actions of one step.

        Args:
            obs: Observations, `[E, N, D]`, float32 or (images) uint8.
            action_mask: Nonzero where an action is available, uint8 `[E, N, A]`.

        Returns:
            Actions, int64 `[E, N]`, and the risk levels at which they were chosen: one
            per agent `[E, N]`, or one number for all.
        """

    def begin(self, slots: np.ndarray, episodes: np.ndarray) -> None:
        """Called when episodes begin, including the first ones; by default a no-op.

        Args:
            slots: Environments of the episodes.
            episodes: Indices of the episodes in their queues.
        """
        return

    def earn(self, rewards: np.ndarray) -> None:
        """Called after every step; by default a no-op.

        Args:
            rewards: Rewards, float32 `[E]`; arbitrary in inactive environments.
        """
        return

    def reset(self, slots: np.ndarray, steps_done: int) -> None:
        """Called when new episodes begin, except the first one of each environment.

        Args:
            slots: Environments of the episodes.
            steps_done: Env steps of the episodes that have ended.
        """


class EpisodeObserver:
    """Callbacks of the loop, for recording episodes; by default all are no-ops.

    Every method gets the loop, whose attributes describe the running episodes.
    """

    def created(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        """Called before new episodes begin.

        Args:
            loop: The loop.
            slots: Environments of the episodes.
        """

    def started(self, loop: EpisodeLoop, slots: np.ndarray) -> None:
        """Called when new episodes have begun; their first observations are ready.

        Args:
            loop: The loop.
            slots: Environments of the episodes.
        """

    def acted(
        self, loop: EpisodeLoop, actions: np.ndarray, levels: np.ndarray | float
    ) -> None:
        """Called when actions are chosen, before the environments step.

        Args:
            loop: The loop; `loop.envs` holds the agents' observations.
            actions: Actions, int64 `[E, N]`.
            levels: Risk levels at which they were chosen; see `Player.act`.
        """

    def stepped(
        self, loop: EpisodeLoop, actions: np.ndarray, step: BatchedStep
    ) -> None:
        """Called when the active environments have stepped.

        Args:
            loop: The loop; `loop.time` does not count this step yet.
            actions: Actions, int64 `[E, N]`.
            step: Result of the step. Episodes in `step.crashed` are lost.
        """

    def ended(self, loop: EpisodeLoop, slot: int, step: BatchedStep) -> None:
        """Called when an episode has ended; not called for a lost episode.

        Args:
            loop: The loop; `loop.playing[slot]` is the index of the episode.
            slot: Environment of the episode.
            step: Result of the last step.
        """


@dataclass(frozen=True)
class EpisodeLimits:
    """Limits at which the loop stops with an error.

    Attributes:
        env_name: Name of the environment in messages.
        max_steps: Largest number of steps of an episode; None: no limit.
    """

    env_name: str = ""
    max_steps: int | None = None


@dataclass
class Played:
    """Counts what the loops of this process have played, for status lines.

    Attributes:
        episodes: Number of episodes that have ended.
        env_steps: Number of their env steps.
        lost: Number of episodes that were lost and played again.
        running: The loop that plays.
    """

    episodes: int = 0
    env_steps: int = 0
    lost: int = 0
    running: EpisodeLoop | None = None

    def __str__(self) -> str:
        """Formats it as ``12 episodes | 340 env steps | 1 lost``."""
        loop = self.running
        steps = self.env_steps + (0 if loop is None else int(loop.time.sum()))
        lost = f" | {self.lost:,} lost" if self.lost else ""
        return f"{self.episodes:,} episodes | {steps:,} env steps{lost}"


PLAYED = Played()


class EpisodeLoop:
    """Plays one episode per seed; a free environment takes the next of its queue.

    Attributes:
        envs: The environments.
        seeds: Environment seeds of the episodes of a queue, `[R]`.
        queue_of: Queue of each environment, int64 `[E]`. Every queue has one episode
            per seed.
        playing: Index of the present or last episode of each environment, int64 `[E]`;
            -1 before the first one.
        active: Whether each environment has an episode to play, bool `[E]`.
        time: Steps of the running episodes, int64 `[E]`.
        longest: Largest number in `time`.
        steps_done: Env steps of the episodes that have ended.
        crashes: Number of episodes that were lost and played again with another seed.
    """

    def __init__(
        self,
        envs: BatchedTeamEnv,
        player: Player,
        seeds: np.ndarray,
        rng: np.random.Generator,
        limits: EpisodeLimits,
        observer: EpisodeObserver,
        queue_of: np.ndarray | None = None,
    ) -> None:
        """Initializes the loop; `play` starts it.

        Args:
            envs: The environments; they are reset.
            player: Chooses the actions; it must be at the beginning of its episodes.
            seeds: Seeds of the episodes of each queue, integers `[R]`.
            rng: Draws the seeds of episodes that are played again after a crash.
            limits: Limits at which the loop stops with an error.
            observer: Records the episodes.
            queue_of: Queue of each environment, `[E]`. Default: one queue for all.
        """
        self.envs = envs
        self.seeds = seeds
        self.queue_of = np.zeros(envs.num_envs, np.int64)
        if queue_of is not None:
            self.queue_of = queue_of
        self.playing = np.full(envs.num_envs, -1)
        self.active = np.zeros(envs.num_envs, bool)
        self.time = np.zeros(envs.num_envs, np.int64)
        self.longest = 0
        self.steps_done = self.crashes = 0
        self._player = player
        self._rng = rng
        self._limits = limits
        self._observer = observer
        self._next = [0] * (int(self.queue_of.max()) + 1)
        self._stopped = False

    def play(self) -> None:
        """Plays all episodes.

        Raises:
            EnvContractError: If an episode does not end.
            EnvFailedError: If an environment fails too often.
            NonFiniteError: If an environment gives NaN that must not be skipped.
        """
        PLAYED.running = self
        try:
            self._play()
        finally:
            PLAYED.running = None

    def stop(self) -> None:
        """Ends the loop after this step; running episodes remain unfinished."""
        self._stopped = True

    def _play(self) -> None:
        envs, observer = self.envs, self._observer
        envs.expect(self.seeds)
        first = [slot for slot in envs.order.tolist() if self._take(slot)]
        self._start(np.array(first, np.int64), self.seeds[self.playing[first]])
        while self.active.any():
            actions, levels = self._player.act(envs.obs, envs.action_mask)
            observer.acted(self, actions, levels)
            step = envs.step(actions, self.active)
            ended = self.active & (step.terminateds | step.truncateds)
            observer.stepped(self, actions, step)
            self._player.earn(step.rewards)
            self.time += self.active
            self.longest = int(self.time.max())
            self._refuse_endless()
            if ended.any() or step.crashed:
                self._go_on(ended, step)
            if self._stopped:
                return

    def _take(self, slot: int) -> bool:
        """Gives an environment the next episode of its queue, if one is left."""
        queue = self.queue_of[slot]
        left = self._next[queue] < len(self.seeds)
        self.active[slot] = left
        if left:
            self.playing[slot] = self._next[queue]
            self._next[queue] += 1
        return left

    def _start(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        self._observer.created(self, slots)
        self.envs.reset(slots, seeds)
        self._player.begin(slots, self.playing[slots])
        self._observer.started(self, slots)

    def _go_on(self, ended: np.ndarray, step: BatchedStep) -> None:
        """Starts new episodes where one has ended or was lost."""
        again, seeds = [], []
        for slot in slots_where(ended):
            if slot in step.crashed:
                continue
            self._observer.ended(self, slot, step)
            self.steps_done += int(self.time[slot])
            PLAYED.episodes += 1
            PLAYED.env_steps += int(self.time[slot])
            self.time[slot] = 0
            if self._take(slot):
                again.append(slot)
                seeds.append(self.seeds[self.playing[slot]])
        for slot in sorted(step.crashed):
            # The same episode with another seed: the old seed may crash every time.
            self.crashes += 1
            PLAYED.lost += 1
            self.time[slot] = 0
            again.append(slot)
            seeds.append(retry_seed(self.seeds[self.playing[slot]], self._rng))
        self.longest = int(self.time.max())
        if again and not self._stopped:
            slots = np.array(again)
            self._start(slots, np.array(seeds))
            self._player.reset(slots, self.steps_done)

    def _refuse_endless(self) -> None:
        """Raises an EnvContractError if an episode does not end."""
        limit = self._limits.max_steps
        if limit is not None and self.longest > limit:
            raise EnvContractError(
                f"env '{self._limits.env_name}': an episode has not ended after"
                f" {limit} steps. Give the environment a time limit (truncation), or"
                " raise max_episode_steps."
            )


class OneTeamEnv(BatchedTeamEnv):
    """One `TeamEnv` as a batch of one; exceptions of the env are raised.

    Attributes:
        last: Result of the env's last `reset` or `step`.
    """

    def __init__(self, env: TeamEnv) -> None:
        """Initializes the batch.

        Args:
            env: The environment; the caller must close it.
        """
        super().__init__(1, env.spec_team)
        self._env = env
        self.last: tuple[Any, ...] = ()

    def reset(self, slots: np.ndarray, seeds: np.ndarray) -> None:
        """Starts a new episode; see the base class."""
        self.last = self._env.reset(seed=int(seeds[0]))
        self._show(self.last[0])

    def step(self, actions: np.ndarray, active: np.ndarray) -> BatchedStep:
        """Plays one joint action; see the base class."""
        self.last = self._env.step(actions[0])
        obs, reward, terminated, truncated, info = self.last
        self._show(obs)
        return BatchedStep(
            rewards=np.array([reward], np.float32),
            terminateds=np.array([terminated]),
            truncateds=np.array([truncated]),
            infos=[info],
        )

    def _show(self, obs: Mapping[str, np.ndarray]) -> None:
        self.obs[0] = obs["obs"]
        self.state[0] = obs["state"]
        self.action_mask[0] = obs["action_mask"]


def retry_seed(seed: int, rng: np.random.Generator) -> int:
    """Draws another environment seed for an episode that was lost.

    Args:
        seed: The seed of the lost episode, of training or of an evaluation.
        rng: Draws the new seed.

    Returns:
        A seed in the same range.
    """
    base = SEED_RANGE if seed >= SEED_RANGE else 0
    return base + int(rng.integers(SEED_RANGE))


def numbers_of(info: Mapping[str, Any]) -> dict[str, float]:
    """The numbers and flags of an environment's info, as floats."""
    return {
        key: float(value)
        for key, value in info.items()
        if isinstance(value, (bool, int, float, np.bool_, np.number))
    }
