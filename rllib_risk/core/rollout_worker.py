"""A rollout worker that plays whole episodes in several environments at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.evaluation.rollout_worker import RolloutWorker
from ray.rllib.policy.sample_batch import DEFAULT_POLICY_ID

from rllib_risk.core import ray_internals
from rllib_risk.core.callbacks import Hooks
from rllib_risk.core.envs import make_batched_env
from rllib_risk.core.episode_hooks import EpisodeHooks, call_sample_end
from rllib_risk.core.players import PolicyPlayer
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.core.rounds import (
    EpisodeStore,
    evaluation_rng,
    evaluation_seed,
    play_episodes,
)
from rllib_risk.core.stopwatch import ACTING, Stopwatch
from rllib_risk.data.episodes import Episode
from rllib_risk.env_wrappers import notices
from rllib_risk.env_wrappers.episode_loop import SEED_RANGE
from rllib_risk.env_wrappers.team_env import BatchedTeamEnv
from rllib_risk.parts.objectives.static import Static

# Seed word of the random streams of training; evaluations have another one.
_TRAIN_STREAM = 1


class EnvReport(NamedTuple):
    """Report of a runner about its environments since its last report.

    Attributes:
        crashes: Number of lost episodes.
        notices: Texts by key; see :mod:`rllib_risk.env_wrappers.notices`.
        seconds: Seconds of a remote runner, by part of its work.
    """

    crashes: int
    notices: dict[str, str]
    seconds: Mapping[str, float] = MappingProxyType({})


class TeamRolloutWorker(RolloutWorker):
    """Plays rounds of whole episodes.

    RLlib still handles the policy map, weight sync, global variables, and creation and
    recovery of remote workers. This class replaces the loop: one batched forward pass
    for all environments, one call to step them, preallocated arrays.

    A round has a fixed number of episodes. A free environment takes the next one, and
    the round ends when all have ended. So no episode is cut or continued in the next
    round, short ones are not favoured, and no hidden state outlives a round. All
    randomness of a round follows from the seed, the worker's index and the round's
    number.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Initializes the worker; see :class:`RolloutWorker`.

        Args:
            **kwargs: RLlib's arguments.
        """
        config = kwargs["config"]
        self._num_envs = config.num_envs_per_env_runner
        # RLlib would vectorise its environment, but only the spaces of one are needed.
        single = config.copy(copy_frozen=False)
        single.num_envs_per_env_runner = 1
        # RLlib's worker supports one callback class and no functions; see `hooks`.
        single.callbacks_class = RLlibCallback
        super().__init__(**{**kwargs, "config": single})
        self.hooks = Hooks(config)
        for name, policy in self.policy_map.items():
            self.hooks.call("on_create_policy", policy_id=name, policy=policy)
        self._team_envs: BatchedTeamEnv | None = None
        self._store: EpisodeStore | None = None
        self._player: PolicyPlayer | None = None
        # Called at every step with the env steps that were just played.
        self.on_steps: Callable[[int], None] = lambda steps: None
        # In the trial's own process this becomes the algorithm's stopwatch.
        self.stopwatch = Stopwatch()
        self._metrics: list[Any] = []
        self._rounds = 0
        self._crashes = 0

    @property
    def team_policy(self) -> TeamPolicy:
        """The policy of the team, the worker's only one."""
        return self.policy_map[DEFAULT_POLICY_ID]

    @property
    def team_envs(self) -> BatchedTeamEnv:
        """The environments, created at their first use."""
        if self._team_envs is None:
            self._team_envs = make_batched_env(
                self.config, self._num_envs, self.env_context
            )
            self.hooks.call(
                "on_environment_created",
                env_runner=self,
                env=self._team_envs,
                env_context=self.env_context,
                metrics_logger=None,
            )
        return self._team_envs

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function with this worker; see RLlib's ``FaultAwareApply``.

        RLlib's own version ends the process on any error and starts another one a
        minute later. An error that reaches this method was already retried in a new
        environment, or is a mistake in code or configuration. A new process would
        repeat it, and its message would be lost.
        """
        return func(self, *args, **kwargs)

    def sample(
        self, round_index: int | None = None, num_episodes: int | None = None
    ) -> list[Episode]:
        """Plays one exploring round.

        Args:
            round_index: Number of the round, which determines all its randomness.
                Default: the worker's own count.
            num_episodes: Number of episodes of the round. Default:
                ``episodes_per_round``, or one per environment.

        Returns:
            The episodes, in the order in which they began.
        """
        index = self._rounds if round_index is None else round_index
        self._rounds = index + 1
        number = num_episodes or self.config.episodes_per_round or self._num_envs
        rng = np.random.default_rng(
            (self.config.seed or 0, _TRAIN_STREAM, self.worker_index, index)
        )
        seeds = rng.integers(SEED_RANGE, size=number)
        envs, policy = self.team_envs.num_envs, self.team_policy
        objective = policy.network.objective
        thresholds = None
        if isinstance(objective, Static):
            thresholds = objective.draw(rng.random(number))
        explorer = policy.make_explorer(envs)
        player = PolicyPlayer(policy, envs, explorer, self._epsilons(), rng, thresholds)
        with self.stopwatch.part(ACTING):
            episodes = self._play(player, seeds, rng, self.stopwatch)
        if thresholds is not None:
            for episode, threshold in zip(episodes, thresholds.tolist(), strict=True):
                episode.threshold = threshold
        if self.hooks.wants("on_sample_end"):
            call_sample_end(self.hooks, self, episodes)
        self._metrics += [
            ray_internals.episode_metrics(len(e), e.episode_return, e.metrics)
            for e in episodes
        ]
        return episodes

    def evaluate_episodes(
        self,
        indices: Sequence[int],
        seed: int,
        thresholds: Sequence[float] | None = None,
    ) -> list[Episode]:
        """Plays greedy episodes.

        Args:
            indices: Indices of the episodes in the evaluation. An index determines the
                environment seed, so any split over workers plays the same episodes.
            seed: Seed of the evaluation.
            thresholds: Thresholds of the objective. Consecutive indices share an
                environment seed, one for each threshold. None: the chosen threshold, if
                the objective has thresholds.

        Returns:
            The episodes, in the order of ``indices``.
        """
        each = 1 if thresholds is None else len(thresholds)
        seeds = [evaluation_seed(seed, index // each) for index in indices]
        of_episode = None
        if thresholds is not None:
            of_episode = np.array([thresholds[index % each] for index in indices])
        player = PolicyPlayer(
            self.team_policy, self.team_envs.num_envs, thresholds=of_episode
        )
        return self._play(player, np.array(seeds), evaluation_rng(seed))

    def refresh_player(self) -> None:
        """Makes running episodes use weights that have just changed."""
        if self._player is not None:
            self._player.refresh()

    def take_report(self) -> EnvReport:
        """Returns lost episodes and new notices since the last call."""
        count, self._crashes = self._crashes, 0
        return EnvReport(count, notices.take_new())

    def get_metrics(self) -> list[Any]:
        """Returns and clears the metrics of training episodes; see RolloutWorker."""
        metrics, self._metrics = self._metrics, []
        return metrics

    def stop(self) -> None:
        """Closes the environments; see RolloutWorker."""
        self.stop_envs()
        super().stop()

    def stop_envs(self) -> None:
        """Closes the environments; their next use creates new ones."""
        if self._team_envs is not None:
            self._team_envs.close()
            self._team_envs = None

    def _epsilons(self) -> Callable[[int], np.ndarray]:
        """Returns a function from the env steps of this round to epsilons, ``[E]``."""
        start = int(self.global_vars["timestep"])
        runners = max(self.num_workers, 1)
        first = max(self.worker_index - 1, 0) * self._num_envs
        mine = slice(first, first + self._num_envs)
        everywhere = runners * self._num_envs

        def epsilons(steps: int) -> np.ndarray:
            # Other runners have played about as many steps of their rounds.
            now = start + steps * runners
            return self.team_policy.epsilons_at(now, everywhere)[mine]

        return epsilons

    def _play(
        self,
        player: PolicyPlayer,
        seeds: np.ndarray,
        rng: np.random.Generator,
        stopwatch: Stopwatch | None = None,
    ) -> list[Episode]:
        envs = self.team_envs
        if self._store is None:
            self._store = EpisodeStore(envs.spec, envs.num_envs)
            self._store.on_steps = lambda steps: self.on_steps(steps)
        hooks = None
        if self.hooks.wants("on_episode_"):
            hooks = EpisodeHooks(self.hooks, self, envs)
        self._player = player
        episodes, crashes = play_episodes(
            self.config, envs, player, seeds, rng, self._store, hooks, stopwatch
        )
        self._player = None
        self._crashes += crashes
        return episodes
