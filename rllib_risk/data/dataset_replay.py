"""A replay of a dataset, with the interface of the replay of sampled episodes."""

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
from rllib_risk.data.replay import EpisodeReplay, SequenceSettings
from rllib_risk.data.replay_memory import SEGMENT_BYTES
from rllib_risk.data.segments import bytes_per_row

logger = logging.getLogger(__name__)

# Seed word of the random streams that shuffle shards.
_SHARD_STREAM = 5
# Seed word of the random stream of some_episodes.
_SAMPLE_STREAM = 7
# A window of fewer episodes gives a warning.
_FEW_EPISODES = 32
# The ring uses its oldest and its newest segment only in part.
_SPARE_SEGMENTS = 2
_MIN_SEGMENT_BYTES = 2**16
# Memory for reading, in addition to the window: a row group in Arrow and in NumPy,
# copies between them, and temporary arrays of the checks.
_READING_BYTES = 5 * BYTES_PER_GROUP


class DatasetReplay(EpisodeReplay):
    """A replay of a dataset: all of its episodes, or a window that moves over them.

    A dataset that fits is held in memory. For a larger dataset the replay holds as many
    episodes as fit. For every env step that is drawn, one more step is read. Files are
    read in random order, which changes in every pass. The episodes of a file are read
    in order. So within a pass a step is drawn once on average, from a window as large
    as memory allows.

    The draws depend only on the seed, the dataset and the number of draws.

    Attributes:
        dataset: The dataset.
        split: The episodes to learn from.
        whole: Whether all of these are in memory.
    """

    def __init__(
        self,
        dataset: Dataset,
        memory_bytes: int,
        seed: int,
        compact: bool = False,
        sequences: SequenceSettings | None = None,
        split: Split | None = None,
    ) -> None:
        """Reads as many episodes as fit into memory.

        Args:
            dataset: The dataset.
            memory_bytes: Memory for episodes and, if they do not all fit, for reading.
            seed: Seed of the draws and of the order of files.
            compact: See :class:`EpisodeReplay`.
            sequences: See :class:`EpisodeReplay`.
            split: The episodes to learn from. None: all.

        Raises:
            DatasetError: If a file is damaged.
        """
        self.dataset = dataset
        self.split = split = split or split_dataset(dataset, seed)
        ends = np.cumsum([shard.episodes for shard in dataset.card.shards])
        # For each file, whether each of its episodes is learned from.
        self._learned = np.split(split.learned, ends[:-1])
        row = bytes_per_row(next(dataset.episodes()), compact)
        rows = split.num_steps + split.num_episodes
        self.whole = rows * row <= memory_bytes
        capacity, segment = split.num_episodes, SEGMENT_BYTES
        if not self.whole:
            memory_bytes -= _READING_BYTES
            segment = min(segment, max(memory_bytes // 16, _MIN_SEGMENT_BYTES))
            length = rows * row / capacity  # of an episode, in bytes
            number = int(memory_bytes // max(segment, length)) - _SPARE_SEGMENTS
            capacity = max(number * int(max(segment // length, 1)), 1)
            if capacity < _FEW_EPISODES:
                logger.warning(
                    "Only %d of the %d episodes of %s fit into memory at once. Batches"
                    " from so few episodes are very similar. Raise dataset_memory_mb.",
                    capacity,
                    split.num_episodes,
                    dataset.folder,
                )
        super().__init__(capacity, seed, segment, compact, sequences)
        self._restart(0)

    @property
    def passes(self) -> float:
        """Number of passes over the dataset, including the fraction of the last one."""
        return self._read / self.split.num_episodes

    def some_episodes(self, number: int) -> list[Episode]:
        """Returns a fixed sample of the episodes to learn from.

        Args:
            number: Number of episodes; at most as many as fit into memory.
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

    def sample_sequences(
        self, size: int, length: int, burn_in: int, *, padded: bool = False
    ) -> SampleBatch:
        """See :meth:`EpisodeReplay.sample_sequences`."""
        self._move_window()
        drawn = super().sample_sequences(size, length, burn_in, padded=padded)
        self._owed += int(drawn[MASK].sum())
        return drawn

    def _move_window(self) -> None:
        """Reads as many steps as were drawn since the last call."""
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
        """Fills the window as if ``read`` episodes had been read.

        The index of an episode in the ring follows from its number in the stream. So
        reading starts at a multiple of the ring's size.
        """
        self.clear()
        self._owed = 0
        begin = max(read // self.capacity - 1, 0) * self.capacity
        self._read = begin
        self._stream = self._episodes_from(begin)
        while self._read < max(read, self.capacity):
            self._take()

    def _episodes_from(self, begin: int) -> Iterator[Episode]:
        """Yields episodes endlessly, from number ``begin`` of all passes on."""
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
        """Returns the position and the dataset's hash, without the episodes."""
        content = bytes.fromhex(self.dataset.card.content_hash)
        return {
            "dataset": np.frombuffer(content, np.uint8),
            "position": np.array([self._read, self._draws, self._owed, self.capacity]),
        }

    def load_arrays(self, arrays: dict[str, Any]) -> None:
        """Restores the position of :meth:`state_arrays`, if the dataset is the same.

        Args:
            arrays: State of a replay. A state of another dataset or of sampled episodes
                is ignored.
        """
        content = arrays.get("dataset", np.empty(0)).tobytes()
        if content.hex() != self.dataset.card.content_hash:
            return
        read, draws, owed, capacity = (int(n) for n in arrays["position"])
        if not self.whole:
            # With another capacity the position cannot be restored, so start again.
            self._restart(read if capacity == self.capacity else 0)
        self._draws, self._owed = draws, owed
