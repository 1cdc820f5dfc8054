"""A dataset as a replay: learners draw from it as from episodes that they played."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.rllib.policy.sample_batch import SampleBatch

from rllib_risk.data.dataset import BYTES_PER_GROUP, Dataset
from rllib_risk.data.dataset_split import Split, split_dataset
from rllib_risk.data.episodes import MASK, Episode
from rllib_risk.data.replay import EpisodeReplay, Stretch
from rllib_risk.data.replay_memory import SEGMENT_BYTES
from rllib_risk.data.segments import bytes_per_row

logger = logging.getLogger(__name__)

# First word of the random streams that shards are shuffled by.
_SHARD_STREAM = 5
# The same of the stream that some_episodes are chosen by.
_SAMPLE_STREAM = 7
# A window of fewer is worth a warning.
_FEW_EPISODES = 32
# The ring's oldest and its newest segment are used in part.
_SPARE_SEGMENTS = 2
_LEAST_SEGMENT_BYTES = 2**16
# What reading takes beside the window: a group as Arrow and as NumPy have it, copies
# between them, and what its checks compare.
_READING_BYTES = 5 * BYTES_PER_GROUP


class DatasetReplay(EpisodeReplay):
    """Episodes of a dataset, all of them or a window that moves over it.

    A dataset that fits is held in memory. Of a larger one the replay holds as many
    episodes as fit, and for every env step that was drawn one more is read: files in a
    random order, a new one in every pass, the episodes of a file as they are. So within
    a pass a step is drawn once on average, from a window as large as memory allows.

    What is drawn depends on the seed, the dataset and the number of draws alone.

    Attributes:
        dataset: Where episodes come from.
        split: Which of them are learned from.
        whole: Whether all of these are held.
    """

    def __init__(
        self,
        dataset: Dataset,
        memory_bytes: int,
        seed: int,
        compact: bool = False,
        stretch: Stretch | None = None,
        split: Split | None = None,
    ) -> None:
        """Reads as much as there is room for.

        Args:
            dataset: Where episodes come from.
            memory_bytes: For episodes and, where they do not fit, for reading.
            seed: Of the draws and of the order of files.
            compact: See :class:`EpisodeReplay`.
            stretch: See :class:`EpisodeReplay`.
            split: Which episodes are learned from; None: all.

        Raises:
            DatasetError: If what is read is damaged.
        """
        self.dataset = dataset
        self.split = split = split or split_dataset(dataset, seed)
        ends = np.cumsum([shard.episodes for shard in dataset.card.shards])
        # Of each file: which of its episodes are learned from.
        self._learned = np.split(split.learned, ends[:-1])
        row = bytes_per_row(next(dataset.episodes()), compact)
        rows = split.num_steps + split.num_episodes
        self.whole = rows * row <= memory_bytes
        capacity, segment = split.num_episodes, SEGMENT_BYTES
        if not self.whole:
            memory_bytes -= _READING_BYTES
            segment = min(segment, max(memory_bytes // 16, _LEAST_SEGMENT_BYTES))
            length = rows * row / capacity  # of an episode, in bytes
            number = int(memory_bytes // max(segment, length)) - _SPARE_SEGMENTS
            capacity = max(number * int(max(segment // length, 1)), 1)
            if capacity < _FEW_EPISODES:
                logger.warning(
                    "Only %d of the %d episodes of %s are held at once; with so few,"
                    " batches are all alike. Raise dataset_memory_mb.",
                    capacity,
                    split.num_episodes,
                    dataset.folder,
                )
        super().__init__(capacity, seed, segment, compact, stretch)
        self._restart(0)

    @property
    def passes(self) -> float:
        """How often the dataset was read, a part of the last time included."""
        return self._read / self.split.num_episodes

    def some_episodes(self, number: int) -> list[Episode]:
        """Some of the episodes that are learned from: the same at any time.

        Args:
            number: How many, or as many as are held at once.
        """
        number = min(number, self.capacity)
        if not self.whole:
            return list(itertools.islice(self._episodes_from(0), number))
        rng = np.random.default_rng((self.seed, _SAMPLE_STREAM))
        return self.at(np.sort(rng.permutation(self.capacity)[:number]).tolist())

    def sample(self, size: int, newest: int | None = None) -> list[Episode]:
        """See :meth:`EpisodeReplay.sample`."""
        self._move_window()
        drawn = super().sample(size, newest)
        self._owed += sum(len(episode) for episode in drawn)
        return drawn

    def sample_stretches(
        self, size: int, length: int, burn_in: int, *, padded: bool = False
    ) -> SampleBatch:
        """See :meth:`EpisodeReplay.sample_stretches`."""
        self._move_window()
        drawn = super().sample_stretches(size, length, burn_in, padded=padded)
        self._owed += int(drawn[MASK].sum())
        return drawn

    def _move_window(self) -> None:
        """Reads as many steps as were drawn before."""
        if self.whole:
            return
        while self._owed > 0:
            self._owed -= self._take()

    def _take(self) -> int:
        episode = next(self._stream)
        self.add([episode])
        self._read += 1
        return len(episode)

    def _restart(self, read: int) -> None:
        """Holds what it would hold after a number of episodes were read.

        A ring's episodes stand at places that follow from their numbers; beginning at a
        multiple of its size brings each to its own.
        """
        self.clear()
        self._owed = 0
        begin = max(read // self.capacity - 1, 0) * self.capacity
        self._read = begin
        self._stream = self._episodes_from(begin)
        while self._read < max(read, self.capacity):
            self._take()

    def _episodes_from(self, begin: int) -> Iterator[Episode]:
        """Episodes without end, from one of this number on, counted over all passes."""
        sizes = [int(learned.sum()) for learned in self._learned]
        passes, skip = divmod(begin, self.split.num_episodes)
        for number in itertools.count(passes):
            order = np.arange(len(sizes))
            if not self.whole:
                rng = np.random.default_rng((self.seed, _SHARD_STREAM, number))
                order = rng.permutation(order)
            for shard in order.tolist():
                if skip >= sizes[shard]:
                    skip -= sizes[shard]
                    continue
                episodes = self.dataset.episodes([shard])
                learned = itertools.compress(episodes, self._learned[shard])
                yield from itertools.islice(learned, skip, None)
                skip = 0

    def state_arrays(self) -> dict[str, np.ndarray]:
        """How far it is, and in which dataset; the dataset itself stays where it is."""
        content = bytes.fromhex(self.dataset.card.content_hash)
        return {
            "dataset": np.frombuffer(content, np.uint8),
            "position": np.array([self._read, self._draws, self._owed, self.capacity]),
        }

    def load_arrays(self, arrays: dict[str, Any]) -> None:
        """Goes on where :meth:`state_arrays` was asked, if it was the same dataset.

        Args:
            arrays: Of this dataset; of another one, or of episodes that were played,
                they change nothing.
        """
        content = arrays.get("dataset", np.empty(0)).tobytes()
        if content.hex() != self.dataset.card.content_hash:
            return
        read, draws, owed, capacity = (int(n) for n in arrays["position"])
        if not self.whole:
            # With another amount of memory no ring is like the one before.
            self._restart(read if capacity == self.capacity else 0)
        self._draws, self._owed = draws, owed
