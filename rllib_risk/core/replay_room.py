"""Checks in a running trial that its replay fits into memory."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Sequence

from rllib_risk.config.schema import ConfigError
from rllib_risk.core.config import TeamConfig
from rllib_risk.data.episodes import Episode
from rllib_risk.data.replay_memory import check_room, machine_memory
from rllib_risk.data.sizes import TeamSpec

logger = logging.getLogger(__name__)

# Number of episodes whose mean length is taken for that of the episodes to come.
RECENT_EPISODES = 100


class ReplayRoom:
    """Compares the replay with the memory of the machine.

    If the environment declares no limit, episodes may grow during a run, so their
    lengths are observed and checked again with every result.
    """

    def __init__(self, config: TeamConfig, spec: TeamSpec) -> None:
        """Starts without episodes.

        Args:
            config: The configuration.
            spec: Sizes of the team.
        """
        self._config = config
        self._spec = spec
        self._recent: deque[int] = deque(maxlen=RECENT_EPISODES)
        self._longest = 0
        # The longest episode at the last warning.
        self._warned = 0
        self._begun = False

    def observe(self, episodes: Sequence[Episode]) -> None:
        """Records the lengths of new episodes.

        Args:
            episodes: The episodes.
        """
        lengths = [len(episode) for episode in episodes]
        self._recent.extend(lengths)
        self._longest = max([self._longest, *lengths])

    def begin(self) -> None:
        """Checks the longest possible episode, once.

        Raises:
            ConfigError: If the replay does not fit. If the environment declares no
                limit, this is a warning.
        """
        if not self._begun:
            self._begun = True
            if warning := self._check(self._spec.episode_limit):
                logger.warning(warning)

    def check(self) -> None:
        """Checks the observed episodes, if the environment declares no limit.

        Raises:
            ConfigError: If episodes of the recent mean length do not fit. If only
                episodes as long as the longest do not fit, this is a warning, repeated
                when that length has doubled.
        """
        if self._spec.episode_limit is not None or not self._recent:
            return
        self._check(math.ceil(sum(self._recent) / len(self._recent)))
        if self._longest < 2 * self._warned:
            return
        try:
            self._check(self._longest)
        except ConfigError as error:
            self._warned = self._longest
            logger.warning("If all episodes become as long as the longest: %s", error)

    def _check(self, steps: int | None) -> str:
        """Checks episodes of a length; see `check_room`."""
        spec = dataclasses.replace(self._spec, episode_limit=steps)
        bound = self._config.replay_bound([spec])
        return check_room([bound], machine_memory(), "this machine")
