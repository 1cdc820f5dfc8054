"""Replay of whole episodes: a seeded first-in first-out ring.

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

# Entries that the index begins with. It doubles until it has one for each episode.
_FIRST_ENTRIES = 1024
# Of every episode held: where its rows begin, and what of it is no array.
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
class StoreOptions:
    """Keys of all replays: how much they hold, and in what form."""

    buffer_size_episodes: int = option(
        5000, "Replay capacity; the oldest go first.", low=1, unit="episodes"
    )
    compact_replay: bool = option(
        False,
        "Keep observations and states of the replay in 16 bits, and in one each those"
        " numbers that are only ever 0 or 1, and legal actions: less than half the"
        " memory, three significant digits.",
    )


@dataclass(frozen=True)
class Stretch:
    """What is drawn where it is not whole episodes.

    Attributes:
        length: Steps that are learned from; fewer where an episode begins or ends.
        burn_in: Steps before them that come along.
        padded: Whether zeros stand for steps before an episode's first one.
    """

    length: int
    burn_in: int
    padded: bool


class EpisodeReplay:
    """Keeps the last ``capacity`` episodes, real steps only.

    What is drawn depends on the seed and on how many draws came before, never on hidden
    state: restoring the two counters and the episodes restores the stream.

    Attributes:
        capacity: In episodes.
        seed: Of the draws.
        compact: Whether observations and states are kept in 16 bits or one.
        stretch: What :meth:`draw` gives; None: whole episodes.
        return_discount: Discount of the return before a stretch, which is then told
            with it; None: it is not.
    """

    return_discount: float | None = None

    def __init__(
        self,
        capacity: int,
        seed: int,
        segment_bytes: int = SEGMENT_BYTES,
        compact: bool = False,
        stretch: Stretch | None = None,
    ) -> None:
        """Initializes an empty buffer.

        Args:
            capacity: In episodes.
            seed: Of the draws.
            segment_bytes: By how much memory grows and shrinks.
            compact: Keep observations and states in 16 bits, and in one each those
                numbers that were never anything but 0 and 1, and legal actions. What is
                drawn is float32 and uint8 all the same.
            stretch: What :meth:`draw` gives; None: whole episodes.
        """
        self.capacity = capacity
        self.stretch = stretch
        self.seed = seed
        self.compact = compact
        self._flags: Flags | None = None  # of all episodes so far, if compact
        self._segment_bytes = segment_bytes
        # Nothing else refers to a segment, so that it goes with its last episode.
        self._held: list[tuple[Segment, dict[str, float]]] = []  # and metrics
        self._all = np.zeros(min(capacity, _FIRST_ENTRIES), _INDEX)
        self._next = 0
        self._draws = 0
        self._segments = 0  # how many there were so far

    def __len__(self) -> int:
        """Number of episodes held."""
        return len(self._held)

    @property
    def num_steps(self) -> int:
        """Number of env steps held."""
        return int(self._index["steps"].sum())

    @property
    def _index(self) -> np.ndarray:
        return self._all[: len(self._held)]

    def add(self, episodes: Iterable[Episode]) -> None:
        """Adds copies of episodes; the oldest ones make room."""
        for episode in episodes:
            segment = self._held[self._next - 1][0] if self._held else None
            if self.compact and self._restrict_flags(episode):
                segment = None  # an open one takes a number for a flag that is none
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
        """Leaves only those flags that are flags in this episode too.

        Returns:
            Whether there are fewer now. That happens once per number at most.
        """
        here = flags_of(episode)
        before = self._flags or here
        self._flags = {name: before[name] & flag for name, flag in here.items()}
        return any((before[name] != self._flags[name]).any() for name in here)

    def clear(self) -> None:
        """Forgets all episodes; the draws go on where they are."""
        self._held = []
        self._next = 0

    def draw(self, size: int) -> SampleBatch:
        """Draws a batch to learn from: whole episodes, or stretches of some.

        Args:
            size: Episodes or stretches.

        Returns:
            As :func:`rllib_risk.data.episodes.collate`.
        """
        if self.stretch is None:
            return collate(self.sample(size))
        s = self.stretch
        return self.sample_stretches(size, s.length, s.burn_in, padded=s.padded)

    def sample(self, size: int, newest: int | None = None) -> list[Episode]:
        """Draws episodes uniformly, without replacement.

        Args:
            size: In episodes; at most ``len(self)``.
            newest: Draw from this number of newest episodes, or from all that there are
                if they are fewer; None: from all.

        Returns:
            The episodes.
        """
        rng = self.next_rng()
        pool = np.arange(len(self))
        if newest is not None and newest < len(self):
            pool = self.newest_places(newest)
        return self.at(rng.choice(pool, size, replace=False))

    def sample_stretches(
        self, size: int, length: int, burn_in: int, *, padded: bool = False
    ) -> SampleBatch:
        """Draws stretches of episodes, so that every step held is as likely as another.

        Args:
            size: How many; the same one may come twice.
            length: Steps of a stretch; fewer where an episode begins or ends within.
            burn_in: Steps before it that come along.
            padded: Whether zeros stand for steps before an episode's first one.

        Returns:
            See :meth:`stretches`.
        """
        rng = self.next_rng()
        # An episode of L steps has L + length - 1 places for a stretch of which at
        # least one step lies within, and each of its steps lies in `length` of them.
        places = self._index["steps"] + length - 1
        ends = places.cumsum()
        drawn = rng.integers(ends[-1], size=size)
        chosen = np.searchsorted(ends, drawn, side="right")
        firsts = drawn - (ends - places)[chosen] - (length - 1)
        return self.stretches(chosen, firsts, length, burn_in, padded=padded)

    def stretches(
        self,
        chosen: np.ndarray,
        firsts: np.ndarray,
        length: int,
        burn_in: int,
        *,
        padded: bool = False,
    ) -> SampleBatch:
        """Some steps in a row, with the steps before them that fill a memory.

        Args:
            chosen: Which of the episodes held, ``[B]``.
            firsts: The first step of each that is learned from, ``[B]``; below 0 it
                counts from before the beginning, where there is nothing. At least one
                step of each lies within.
            length: Steps from there, as many as there are.
            burn_in: Steps before ``firsts`` that come along, as many as there are.
            padded: Whether all ``burn_in`` steps come along everywhere. Steps before
                an episode's first one have zero observations and action 0, and so has
                the action before the first one.

        Returns:
            As :func:`rllib_risk.data.episodes.collate`, with ``mask`` 0 in burn-in too,
            ``previous`` the actions before the first of these steps and ``first`` its
            number (negative in the padding); ``variants [B]``, that of each episode;
            and with :attr:`return_discount` ``earned [B]``, the return before the first
            of these steps, and ``ends [B]``, 1 where the last one is the episode's.
        """
        index = self._index[chosen]
        begin = np.maximum(firsts, 0)
        start = begin - burn_in if padded else np.maximum(begin - burn_in, 0)
        count = np.minimum(firsts + length, index["steps"]) - start
        time = np.arange(count.max() + 1)
        begun = time >= -start[:, None]
        real = begun & (time < count[:, None] + 1)  # [B, T + 1]; what was seen
        done = begun[:, :-1] & (time[:-1] < count[:, None])  # [B, T]; what was done
        # Padding repeats the first row, and is overwritten below.
        rows = index["row"][:, None] + np.where(real, start[:, None] + time, 0)
        learned = done & (time[:-1] >= (begin - start)[:, None])
        segments = [
            (self._held[chosen[where[0]]][0], where)
            for where in _equal(index["segment"])
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
        """Returns of episodes that begin at ``rows`` before step ``start``, ``[B]``."""
        steps = np.arange(max(start.max(), 0))
        before = steps < start[:, None]  # [B, steps]
        places = rows[:, None] + np.where(before, steps, 0)
        rewards = np.where(before, _take(segments, "rewards", places), 0.0)
        return rewards @ np.power(self.return_discount or 0.0, steps, dtype=np.float64)

    def newest(self, size: int) -> list[Episode]:
        """The newest episodes, the oldest of them first.

        Args:
            size: In episodes; at most ``len(self)``.

        Returns:
            The episodes.

        Raises:
            ValueError: If there are not that many.
        """
        return self.at(self.newest_places(size))

    def newest_places(self, size: int) -> np.ndarray:
        """Where the newest episodes stand, the oldest of them first.

        Args:
            size: In episodes; at most ``len(self)``.

        Returns:
            Numbers below ``capacity``, ``[size]``. An episode keeps its place until a
            newer one takes it.

        Raises:
            ValueError: If there are not that many.
        """
        if size > len(self):
            raise ValueError(f"{size} episodes asked for, {len(self)} held.")
        # The newest stands right before the place of the next one.
        return (self._next + np.arange(-size, 0)) % max(len(self), 1)

    def at(self, places: Iterable[int]) -> list[Episode]:
        """The episodes at some places; unless compact, they share the replay's memory.

        Args:
            places: Numbers below ``len(self)``.
        """
        return [self._episode(place) for place in places]

    def _episode(self, place: int) -> Episode:
        """One of those held; unless compact, it shares the segment's memory."""
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
        """The randomness of the next draw, which the seed and their number decide."""
        self._draws += 1
        return np.random.default_rng((self.seed, self._draws - 1))

    def state_arrays(self) -> dict[str, np.ndarray]:
        """All that the buffer holds as plain arrays: steps end to end, and lengths."""
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
        """Takes back what :meth:`state_arrays` gave.

        Of an episode's metrics only the variant is kept.

        Args:
            arrays: From :meth:`state_arrays`; of an earlier version without variants.
                Those of a run that learned from a dataset hold no episodes.
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
            # Every episode at its place: what is drawn goes by places.
            self.add(episodes)
            self._next = oldest if len(episodes) == capacity else self._next
        else:
            # Another size: the oldest first, as many as there is room for.
            self.add((episodes[oldest:] + episodes[:oldest])[-self.capacity :])
        self._draws = draws


def _equal(numbers: np.ndarray) -> list[np.ndarray]:
    """Where each of the different numbers stands."""
    if (numbers == numbers[0]).all():
        return [np.arange(len(numbers))]
    order = numbers.argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _take(
    segments: list[tuple[Segment, np.ndarray]], name: str, rows: np.ndarray
) -> np.ndarray:
    """Rows of one array, each from the segment where its episode is."""
    parts = [segment.take(name, rows[where]) for segment, where in segments]
    if len(parts) == 1:
        return parts[0]
    taken = np.empty((*rows.shape, *parts[0].shape[rows.ndim :]), parts[0].dtype)
    for part, (_, where) in zip(parts, segments, strict=True):
        taken[where] = part
    return taken
