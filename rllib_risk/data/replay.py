"""Replay of whole episodes: a seeded first-in, first-out ring buffer.

Letters as in :mod:`rllib_risk.data.episodes`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.config.options import option
from rllib_risk.data import episodes as columns
from rllib_risk.data.episodes import VARIANT, Episode, collate
from rllib_risk.data.replay_memory import SEGMENT_BYTES
from rllib_risk.data.segments import (
    ROW_ARRAYS,
    STEP_ARRAYS,
    Flags,
    Segment,
    flags_of,
)

# Initial size of the index. It doubles until it has one entry for each episode.
_FIRST_ENTRIES = 1024
# Index entry of a stored episode: position of its rows, and its scalars.
_INDEX = np.dtype(
    [
        ("segment", np.int64),
        ("row", np.int64),
        ("steps", np.int64),
        ("terminated", bool),
        ("variant", np.int64),
        ("threshold", np.float64),
    ]
)


@dataclass(frozen=True)
class FormatOptions:
    """The key of all replays for their format."""

    compact_replay: bool = option(
        False,
        "Whether the replay stores observations and states in 16 bits (three"
        " significant digits), and action masks and numbers that are always 0 or 1 in"
        " one bit. It takes less than half the memory. Pixels keep their 8 bits.",
    )


@dataclass(frozen=True)
class StoreOptions(FormatOptions):
    """Keys of replays for capacity and format."""

    buffer_size_episodes: int = option(
        5000,
        "Capacity of the replay; new episodes replace the oldest ones.",
        low=1,
        unit="episodes",
    )


@dataclass(frozen=True)
class SequenceSettings:
    """Settings of drawn sequences.

    Attributes:
        length: Number of steps that the loss uses; fewer at the start or end of an
            episode.
        burn_in: Number of burn-in steps before them.
        padded: Whether zeros pad the steps before an episode's first step.
    """

    length: int
    burn_in: int
    padded: bool


class EpisodeReplay:
    """Stores the last ``capacity`` episodes without padding.

    A draw depends only on the seed, the number of earlier draws and the episodes. So
    restoring the counters and the episodes restores the random stream.

    Attributes:
        capacity: Maximum number of episodes.
        seed: Seed of the draws.
        compact: Whether observations and states are stored in 16 bits or one bit.
        sequences: Settings of the sequences that :meth:`draw` returns; None: whole
            episodes.
        return_discount: Discount of the return before a sequence, which is then added
            to batches; None: it is not added.
    """

    return_discount: float | None = None

    def __init__(
        self,
        capacity: int,
        seed: int,
        segment_bytes: int = SEGMENT_BYTES,
        compact: bool = False,
        sequences: SequenceSettings | None = None,
    ) -> None:
        """Initializes an empty buffer.

        Args:
            capacity: Maximum number of episodes.
            seed: Seed of the draws.
            segment_bytes: Size of a segment, the unit in which memory is allocated.
            compact: Whether to store observations and states in 16 bits, and action
                masks and numbers that were always 0 or 1 in one bit. Draws still return
                float32 and uint8.
            sequences: Settings of the sequences that :meth:`draw` returns; None: whole
                episodes.
        """
        self.capacity = capacity
        self.sequence_settings = sequences
        self.seed = seed
        self.compact = compact
        self._flags: Flags | None = None  # of all episodes so far, if compact
        self._segment_bytes = segment_bytes
        # These are the only references to segments, so a segment is freed with its last
        # episode.
        self._held: list[tuple[Segment, dict[str, float]]] = []  # and metrics
        self._all = np.zeros(min(capacity, _FIRST_ENTRIES), _INDEX)
        self._next = 0
        self._draws = 0
        self._segments = 0  # number of segments so far

    def __len__(self) -> int:
        """Number of stored episodes."""
        return len(self._held)

    @property
    def num_steps(self) -> int:
        """Number of stored env steps."""
        return int(self._index["steps"].sum())

    @property
    def _index(self) -> np.ndarray:
        return self._all[: len(self._held)]

    def add(self, episodes: Iterable[Episode]) -> None:
        """Adds copies of episodes; they replace the oldest ones if the ring is full."""
        for episode in episodes:
            segment = self._held[self._next - 1][0] if self._held else None
            if self.compact and self._restrict_flags(episode):
                # The open segment stores in one bit a number that is no longer a flag.
                segment = None
            row = segment.add(episode) if segment is not None else None
            if segment is None or row is None:
                segment = Segment(
                    episode, self._segments, self._segment_bytes, self._flags
                )
                self._segments += 1
                row = segment.add(episode)
            held = segment, episode.metrics
            if len(self._held) < self.capacity:
                self._held.append(held)
            else:
                self._held[self._next] = held
            if self._next == len(self._all):
                more = min(self._next, self.capacity - self._next)
                self._all = np.concatenate([self._all, np.zeros(more, _INDEX)])
            steps, ended, variant = len(episode), episode.terminated, episode.variant
            self._all[self._next] = (
                segment.number,
                row,
                steps,
                ended,
                variant,
                episode.threshold,
            )
            self._next = (self._next + 1) % self.capacity

    def _restrict_flags(self, episode: Episode) -> bool:
        """Removes flags (numbers that are always 0 or 1) that an episode contradicts.

        Returns:
            Whether a flag was removed. It happens at most once per number.
        """
        here = flags_of(episode)
        before = self._flags or here
        self._flags = {name: before[name] & flag for name, flag in here.items()}
        return any((before[name] != self._flags[name]).any() for name in here)

    def clear(self) -> None:
        """Removes all episodes; the number of draws stays."""
        self._held = []
        self._next = 0

    def draw(self, size: int) -> SampleBatch:
        """Draws a batch of whole episodes or of sequences.

        Args:
            size: Number of episodes or sequences.

        Returns:
            A batch as from :func:`rllib_risk.data.episodes.collate`.
        """
        if self.sequence_settings is None:
            return collate(self.sample(size))
        s = self.sequence_settings
        return self.sample_sequences(size, s.length, s.burn_in, padded=s.padded)

    def sample(self, size: int, newest: int | None = None) -> list[Episode]:
        """Draws episodes uniformly, without replacement.

        Args:
            size: Number of episodes, at most ``len(self)``.
            newest: Draw only from this number of newest episodes; None: from all.

        Returns:
            The episodes.
        """
        rng = self.next_rng()
        pool = np.arange(len(self))
        if newest is not None and newest < len(self):
            pool = self.newest_places(newest)
        return self.at(rng.choice(pool, size, replace=False))

    def sample_sequences(
        self, size: int, length: int, burn_in: int, *, padded: bool = False
    ) -> SampleBatch:
        """Draws sequences such that every stored step is equally likely.

        Args:
            size: Number of sequences. The same sequence may be drawn twice.
            length: Steps of a sequence; fewer at the start or end of an episode.
            burn_in: Number of burn-in steps before a sequence.
            padded: Whether zeros pad the steps before an episode's first step.

        Returns:
            See :meth:`sequences`.
        """
        rng = self.next_rng()
        # L + length - 1 sequences overlap an episode of L steps, and each of its steps
        # lies in `length` of them.
        counts = self._index["steps"] + length - 1
        ends = counts.cumsum()
        drawn = rng.integers(ends[-1], size=size)
        chosen = np.searchsorted(ends, drawn, side="right")
        firsts = drawn - (ends - counts)[chosen] - (length - 1)
        return self.sequences(chosen, firsts, length, burn_in, padded=padded)

    def sequences(
        self,
        chosen: np.ndarray,
        firsts: np.ndarray,
        length: int,
        burn_in: int,
        *,
        padded: bool = False,
    ) -> SampleBatch:
        """Builds a batch of sequences with their burn-in steps.

        Args:
            chosen: Index of the episode of each sequence, ``[B]``.
            firsts: First step of each sequence that the loss uses, ``[B]``. It may be
                negative, which is before the episode's start. At least one step of each
                sequence must lie in its episode.
            length: Number of steps from there on, at most up to the episode's end.
            burn_in: Number of steps before ``firsts``, at most from the episode's
                start.
            padded: Whether all sequences have ``burn_in`` such steps. Steps before an
                episode's start then have zero observations and action 0, and the
                previous action is 0.

        Returns:
            A batch as from :func:`rllib_risk.data.episodes.collate`. ``mask`` is also 0
            in burn-in. ``previous`` are the actions before the first step, ``first`` is
            its index (negative in padding), and ``variants [B]`` the episode's variant.
            With :attr:`return_discount`, ``earned [B]`` is the return before the first
            step, and ``ends [B]`` is 1 if the last step is the episode's last.
        """
        index = self._index[chosen]
        begin = np.maximum(firsts, 0)
        start = begin - burn_in if padded else np.maximum(begin - burn_in, 0)
        count = np.minimum(firsts + length, index["steps"]) - start
        time = np.arange(count.max() + 1)
        begun = time >= -start[:, None]
        real = begun & (time < count[:, None] + 1)  # [B, T + 1]; observations
        done = begun[:, :-1] & (time[:-1] < count[:, None])  # [B, T]; actions
        # Padding reads the first row and is overwritten below.
        rows = index["row"][:, None] + np.where(real, start[:, None] + time, 0)
        learned = done & (time[:-1] >= (begin - start)[:, None])
        segments = [
            (self._held[chosen[where[0]]][0], where)
            for where in _groups(index["segment"])
        ]
        taken = {name: _take(segments, name, rows) for name in ROW_ARRAYS}
        taken |= {
            name: _take(segments, name, rows[:, :-1]) for name in ("actions", "rewards")
        }
        if not real.all():
            for name in ("obs", "state"):
                taken[name][~real] = 0.0
            taken["action_mask"][~real] = 1
            for name in ("actions", "rewards"):
                taken[name][~done] = 0
        row = np.maximum(index["row"] + start - 1, 0)
        before = _take(segments, "actions", row).astype(np.int64)
        before[start <= 0] = 0 if padded else -1
        terminateds = np.zeros(done.shape, np.float32)
        ended = index["terminated"] & (start + count == index["steps"])
        terminateds[np.arange(len(index)), count - 1] = ended
        more = {}
        if self.return_discount is not None:
            more[columns.EARNED] = self._earned(segments, index["row"], start)
            more[columns.ENDS] = (start + count == index["steps"]).astype(np.float32)
        return SampleBatch(
            {
                **more,
                columns.OBS: taken["obs"],
                columns.STATE: taken["state"],
                columns.ACTION_MASK: taken["action_mask"],
                columns.ACTIONS: taken["actions"].astype(np.int64),
                columns.REWARDS: taken["rewards"],
                columns.TERMINATEDS: terminateds,
                columns.MASK: learned.astype(np.float32),
                columns.PREVIOUS: before,
                columns.FIRST: start,
                columns.VARIANTS: index["variant"],
            },
            _zero_padded=True,
        )

    def _earned(
        self,
        segments: list[tuple[Segment, np.ndarray]],
        rows: np.ndarray,
        start: np.ndarray,
    ) -> np.ndarray:
        """Computes the returns before step ``start`` of each episode, ``[B]``."""
        steps = np.arange(max(start.max(), 0))
        before = steps < start[:, None]  # [B, steps]
        reward_rows = rows[:, None] + np.where(before, steps, 0)
        rewards = np.where(before, _take(segments, "rewards", reward_rows), 0.0)
        return rewards @ np.power(self.return_discount or 0.0, steps, dtype=np.float64)

    def newest(self, size: int) -> list[Episode]:
        """Returns the newest episodes in the order in which they were added.

        Args:
            size: Number of episodes, at most ``len(self)``.

        Returns:
            The episodes.

        Raises:
            ValueError: If fewer episodes are stored.
        """
        return self.at(self.newest_places(size))

    def newest_places(self, size: int) -> np.ndarray:
        """Returns the indices of the newest episodes in the order of their addition.

        Args:
            size: Number of episodes, at most ``len(self)``.

        Returns:
            Indices below ``capacity``, ``[size]``. An episode keeps its index until a
            newer one replaces it.

        Raises:
            ValueError: If fewer episodes are stored.
        """
        if size > len(self):
            raise ValueError(
                f"{size} episodes were requested, but only {len(self)} are stored."
            )
        # The newest episode is right before the next free index.
        return (self._next + np.arange(-size, 0)) % max(len(self), 1)

    def at(self, places: Iterable[int]) -> list[Episode]:
        """Returns the episodes at some indices.

        They share the replay's memory, unless it is compact.

        Args:
            places: Indices below ``len(self)``.
        """
        return [self._episode(place) for place in places]

    def _episode(self, place: int) -> Episode:
        """Returns one stored episode; it shares memory unless the replay is compact."""
        segment, metrics = self._held[place]
        row, steps = self._all[place]["row"], self._all[place]["steps"]
        parts: dict[str, Any] = {
            name: segment.take(name, slice(row, row + steps)) for name in STEP_ARRAYS
        }
        parts |= {
            name: segment.take(name, slice(row, row + steps + 1)) for name in ROW_ARRAYS
        }
        ended = bool(self._all[place]["terminated"])
        parts["threshold"] = float(self._all[place]["threshold"])
        return Episode(terminated=ended, metrics=metrics, **parts)

    def next_rng(self) -> np.random.Generator:
        """Returns the generator of the next draw, seeded by seed and draw number."""
        self._draws += 1
        return np.random.default_rng((self.seed, self._draws - 1))

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Returns the replay's state as arrays, with the steps concatenated."""
        episodes = [self._episode(i) for i in range(len(self))]
        arrays = {
            "lengths": self._index["steps"].copy(),
            "terminated": self._index["terminated"].copy(),
            "variants": self._index["variant"].copy(),
            "counters": np.array([self._next, self._draws, self.capacity]),
        }
        if not np.isnan(self._index["threshold"]).all():
            arrays["thresholds"] = self._index["threshold"].copy()
        for name in STEP_ARRAYS + ROW_ARRAYS if episodes else ():
            arrays[name] = np.concatenate([getattr(e, name) for e in episodes])
        return arrays

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Restores the state of :meth:`state_arrays`.

        Of an episode's metrics only the variant is restored.

        Args:
            arrays: State from :meth:`state_arrays`. Earlier versions have no variants.
                The state of a run that learned from a dataset has no episodes.
        """
        if "lengths" not in arrays:
            return
        lengths = arrays["lengths"]
        variants = arrays.get("variants", np.full(len(lengths), -1))
        steps = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.concatenate([[0], np.cumsum(lengths + 1)])
        episodes = []
        for i in range(len(lengths)):
            step = slice(steps[i], steps[i + 1])
            row = slice(rows[i], rows[i + 1])
            parts: dict[str, Any] = {name: arrays[name][step] for name in STEP_ARRAYS}
            parts |= {name: arrays[name][row] for name in ROW_ARRAYS}
            if "thresholds" in arrays:
                parts["threshold"] = float(arrays["thresholds"][i])
            if variants[i] >= 0:
                parts["metrics"] = {VARIANT: float(variants[i])}
            episodes.append(Episode(terminated=bool(arrays["terminated"][i]), **parts))
        oldest, draws, capacity = (int(c) for c in arrays["counters"])
        if len(episodes) < capacity:
            oldest = 0
        self.clear()
        if capacity == self.capacity:
            # Keep every episode's index, because draws depend on indices.
            self.add(episodes)
            self._next = oldest if len(episodes) == capacity else self._next
        else:
            # With another capacity, add the newest episodes that fit, oldest first.
            self.add((episodes[oldest:] + episodes[:oldest])[-self.capacity :])
        self._draws = draws


def _groups(numbers: np.ndarray) -> list[np.ndarray]:
    """Returns for each distinct number the indices at which it occurs."""
    if (numbers == numbers[0]).all():
        return [np.arange(len(numbers))]
    order = numbers.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _take(
    segments: list[tuple[Segment, np.ndarray]], name: str, rows: np.ndarray
) -> np.ndarray:
    """Reads rows of one array from the segments of their episodes."""
    parts = [segment.take(name, rows[where]) for segment, where in segments]
    if len(parts) == 1:
        return parts[0]
    taken = np.empty((*rows.shape, *parts[0].shape[rows.ndim :]), parts[0].dtype)
    for part, (_, where) in zip(parts, segments, strict=True):
        taken[where] = part
    return taken
