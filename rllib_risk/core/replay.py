"""Replay of whole episodes: a seeded first-in first-out ring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rllib_risk.core.episodes import VARIANT, Episode

_STEP_ARRAYS = ("actions", "rewards", "risk_levels")
_ROW_ARRAYS = ("obs", "state", "action_mask")


class EpisodeReplay:
    """Keeps the last ``capacity`` episodes, real steps only.

    What is drawn depends on the seed and on how many draws came before, never on hidden
    state: restoring the two counters and the episodes restores the stream.

    Attributes:
        capacity: In episodes.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        """Initializes an empty buffer.

        Args:
            capacity: In episodes.
            seed: Of the draws.
        """
        self.capacity = capacity
        self.seed = seed
        self._episodes: list[Episode] = []
        self._next = 0
        self._draws = 0

    def __len__(self) -> int:
        """Number of episodes held."""
        return len(self._episodes)

    @property
    def num_steps(self) -> int:
        """Number of env steps held."""
        return sum(len(episode) for episode in self._episodes)

    def add(self, episodes: Iterable[Episode]) -> None:
        """Adds episodes; the oldest ones make room."""
        for episode in episodes:
            if len(self._episodes) < self.capacity:
                self._episodes.append(episode)
            else:
                self._episodes[self._next] = episode
            self._next = (self._next + 1) % self.capacity

    def clear(self) -> None:
        """Forgets all episodes; the draws go on where they are."""
        self._episodes = []
        self._next = 0

    def sample(self, size: int, newest: int | None = None) -> list[Episode]:
        """Draws episodes uniformly, without replacement.

        Args:
            size: In episodes; at most ``len(self)``.
            newest: Draw from so many of the newest episodes, or from all that there are
                if they are fewer; None: from all.

        Returns:
            The episodes.
        """
        rng = np.random.default_rng((self.seed, self._draws))
        self._draws += 1
        if newest is None or newest >= len(self._episodes):
            pool = self._episodes
        else:
            pool = self.newest(newest)
        chosen = rng.choice(len(pool), size, replace=False)
        return [pool[i] for i in chosen]

    def sample_stretches(self, size: int, length: int, burn_in: int) -> list[Episode]:
        """Draws stretches of episodes, so that every step held is as likely as another.

        Args:
            size: How many; the same one may come twice.
            length: Steps of a stretch; fewer where an episode begins or ends within.
            burn_in: Steps before it that come along.

        Returns:
            The stretches.
        """
        rng = np.random.default_rng((self.seed, self._draws))
        self._draws += 1
        # An episode of L steps has L + length - 1 places for a stretch of which at
        # least one step lies within, and each of its steps lies in `length` of them.
        places = np.array([len(e) + length - 1 for e in self._episodes])
        ends = places.cumsum()
        drawn = rng.integers(ends[-1], size=size)
        chosen = np.searchsorted(ends, drawn, side="right")
        offsets = drawn - (ends - places)[chosen] - (length - 1)
        return [
            self._episodes[index].stretch(first, length, burn_in)
            for index, first in zip(chosen.tolist(), offsets.tolist(), strict=True)
        ]

    def newest(self, size: int) -> list[Episode]:
        """The newest episodes, the oldest of them first.

        Args:
            size: In episodes; at most ``len(self)``.

        Returns:
            The episodes.

        Raises:
            ValueError: If there are not that many.
        """
        held = len(self._episodes)
        if size > held:
            raise ValueError(f"{size} episodes asked for, {held} held.")
        # The newest stands right before the place of the next one.
        return [self._episodes[(self._next - 1 - i) % held] for i in range(size)][::-1]

    def state_arrays(self) -> dict[str, np.ndarray]:
        """All that the buffer holds as plain arrays: steps end to end, and lengths."""
        arrays = {
            "lengths": np.array([len(e) for e in self._episodes], np.int64),
            "terminated": np.array([e.terminated for e in self._episodes], bool),
            "variants": np.array([e.variant for e in self._episodes], np.int64),
            "counters": np.array([self._next, self._draws, self.capacity]),
        }
        for name in _STEP_ARRAYS + _ROW_ARRAYS if self._episodes else ():
            arrays[name] = np.concatenate([getattr(e, name) for e in self._episodes])
        return arrays

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what :meth:`state_arrays` gave.

        Of an episode's metrics only the variant is kept.

        Args:
            arrays: From :meth:`state_arrays`; of an earlier version without variants.
        """
        lengths = arrays["lengths"]
        variants = arrays.get("variants", np.full(len(lengths), -1))
        steps = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.concatenate([[0], np.cumsum(lengths + 1)])
        self._episodes = []
        for i in range(len(lengths)):
            # Copies, so that an episode that leaves the ring frees its memory.
            step = slice(steps[i], steps[i + 1])
            row = slice(rows[i], rows[i + 1])
            parts: dict[str, Any] = {
                name: arrays[name][step].copy() for name in _STEP_ARRAYS
            }
            parts |= {name: arrays[name][row].copy() for name in _ROW_ARRAYS}
            if variants[i] >= 0:
                parts["metrics"] = {VARIANT: float(variants[i])}
            episode = Episode(terminated=bool(arrays["terminated"][i]), **parts)
            self._episodes.append(episode)
        self._next, self._draws, capacity = (int(c) for c in arrays["counters"])
        if capacity != self.capacity:
            # Another size: the oldest first, as many as there is room for.
            if len(self._episodes) == capacity:
                oldest = self._next
                self._episodes = self._episodes[oldest:] + self._episodes[:oldest]
            self._episodes = self._episodes[-self.capacity :]
            self._next = len(self._episodes) % self.capacity
