"""A replay that holds the newest round of episodes, from which PQN learns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.config.schema import MAX_EPISODES
from rllib_risk.data.episodes import Episode, collate
from rllib_risk.data.replay import EpisodeReplay, FormatOptions
from rllib_risk.parts.base import Part
from rllib_risk.parts.replay import Replay


class LatestReplay(Replay, inherit_options=False):
    """The episodes of the newest round; each is drawn once per epoch.

    Source: Gallici et al., "Simplifying Deep Temporal Difference Learning", ICLR 2025,
    Algorithm 1. There a round is a fixed number of steps of every environment; here it
    is a number of whole episodes. ``updates_per_episode`` times ``batch_size_episodes``
    is the number of epochs.
    """

    @dataclass(frozen=True)
    class Options(FormatOptions):
        """See :class:`~rllib_risk.data.replay.FormatOptions`."""

    def __init__(self, seed: int, options: Any = None) -> None:
        """Initializes an empty replay; see :class:`Replay`."""
        Part.__init__(self, options)
        EpisodeReplay.__init__(
            self, MAX_EPISODES, seed, compact=self.options.compact_replay
        )
        # Episodes of this epoch that are not drawn yet.
        self._left = np.zeros(0, np.int64)

    @classmethod
    def refusals(cls, config: Any) -> Iterator[str]:
        """See :meth:`Part.refusals`."""
        yield from super().refusals(config)
        if config.update_interval_env_steps is not None:
            yield (
                "update_interval_env_steps: makes updates while a round is played, and"
                f" replay {config.replay!r} holds a round that has ended. Set"
                " updates_per_episode instead."
            )
        if not config.in_evaluation and config.learning_starts_episodes > (
            size := config.episodes_of_round
        ):
            yield (
                f"learning_starts_episodes ({config.learning_starts_episodes}) must be"
                f" at most {size}, since replay {config.replay!r} holds one round"
                " (episodes_per_round, or else num_envs_per_env_runner, times runners)."
            )

    @classmethod
    def stored_episodes(cls, config: Any) -> int:
        """See :meth:`Replay.stored_episodes`."""
        return int(config.episodes_of_round)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Replaces all episodes by those of a new round."""
        self.clear()
        self._left = self._left[:0]
        super().add(episodes)

    def draw(self, size: int) -> SampleBatch:
        """Returns the next episodes of a shuffled epoch.

        An epoch skips its last episodes if fewer than ``size`` are left.

        Args:
            size: Number of episodes, at most ``len(self)``.

        Returns:
            See :meth:`EpisodeReplay.draw`.
        """
        if len(self._left) < size:
            self._left = self.next_rng().permutation(len(self))
        chosen, self._left = self._left[:size], self._left[size:]
        return collate(self.at(chosen))
