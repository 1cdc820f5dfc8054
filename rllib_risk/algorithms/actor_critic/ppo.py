"""The training loop of MAPPO and IPPO."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_risk.algorithms.actor_critic.ppo_config import PPOTeamConfig
from rllib_risk.algorithms.actor_critic.ppo_policy import PPOTeamPolicy
from rllib_risk.core.algorithm import NUM_EPISODES, TeamAlgorithm
from rllib_risk.core.config import TeamConfig
from rllib_risk.core.policy import TeamPolicy
from rllib_risk.data.episodes import collate
from rllib_risk.data.replay import EpisodeReplay

# Key of `_last` for the number of episodes at the last update.
_LEARNED = "learned_episodes"


class PPOTeamAlgorithm(TeamAlgorithm):
    """Learns from the episodes since the last update; no episode is used twice.

    The weights change only in an update. All these episodes therefore come from the
    current policy.
    """

    config: PPOTeamConfig
    config_class: ClassVar[type[TeamConfig]] = PPOTeamConfig
    policy_class: ClassVar[type[TeamPolicy]] = PPOTeamPolicy

    def make_replay(self, config: AlgorithmConfig) -> EpisodeReplay:
        """See TeamAlgorithm; it holds the episodes of the next update."""
        return EpisodeReplay(
            config.stored_episodes, config.seed, compact=config.compact_replay
        )

    def _make_updates(self, wants_stats: Callable[[], bool]) -> int:
        self._updates_owed = 0.0  # only the number of new episodes decides
        if self._num_new() < self.config.batch_size_episodes:
            return 0
        self._update(stats=True)
        self._last[_LEARNED] = self.counters[NUM_EPISODES]
        return 1

    def _num_new(self) -> int:
        """Returns the number of episodes since the last update."""
        return self.counters[NUM_EPISODES] - self._last.get(_LEARNED, 0)

    def _learn(self) -> tuple[dict[str, float], int]:
        episodes = self.replay.newest(self._num_new())
        logged = self.before_learning(episodes)
        stats = self.learn_on("learn_on_batch", collate(episodes))
        return stats | logged, sum(len(episode) for episode in episodes)
