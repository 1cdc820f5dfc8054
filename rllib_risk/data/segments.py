"""Segments, in which a replay stores episodes one after the other.

Letters as in :mod:`rllib_risk.data.episodes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import Episode

STEP_ARRAYS = ("actions", "rewards", "risk_levels")
ROW_ARRAYS = ("obs", "state", "action_mask")

# Whether each number of observations [D] and states [S] is stored in one bit.
Flags = dict[str, np.ndarray]


def flags_of(episode: Episode) -> Flags:
    """Finds the numbers of observations and states that are always 0 or 1.

    Pixels are left out: they already take one byte.
    """
    arrays = {name: getattr(episode, name) for name in ("obs", "state")}
    arrays = {name: array for name, array in arrays.items() if array.dtype != np.uint8}
    return {
        name: ((array == 0) | (array == 1)).all(axis=tuple(range(array.ndim - 1)))
        for name, array in arrays.items()
    }


def bytes_per_row(
    episode: Episode, compact: bool = False, flags: Flags | None = None
) -> int:
    """Computes the bytes that a replay needs for one row of an episode.

    Args:
        episode: An episode.
        compact: As in :class:`~rllib_risk.data.replay.EpisodeReplay`.
        flags: Numbers that a compact replay stores in one bit. None: no numbers, which
            gives an upper bound.
    """
    if compact and flags is None:
        flags = {name: np.zeros_like(f) for name, f in flags_of(episode).items()}
    kept = _kept(episode, flags if compact else None)
    return sum(array[0].nbytes for array in kept.values())


def _kept(episode: Episode, flags: Flags | None) -> dict[str, np.ndarray]:
    """Converts an episode's arrays to the format in which they are stored.

    Args:
        episode: An episode.
        flags: Numbers of observations and states that are stored in one bit. Others
            take 16 bits, pixels 8 bits, and action masks one bit per action. None: no
            compression.

    Returns:
        Arrays by name.

    Raises:
        ConfigError: If a number is too large for 16 bits.
    """
    arrays = {name: getattr(episode, name) for name in ROW_ARRAYS + STEP_ARRAYS}
    if flags is None:
        return arrays
    for name, flag in flags.items():
        array = arrays[name]
        arrays[f"{name}_flags"] = np.packbits(array[..., flag] != 0, axis=-1)
        with np.errstate(over="ignore"):
            arrays[name] = array[..., ~flag].astype(np.float16)
        if not np.isfinite(arrays[name]).all():
            raise ConfigError(
                f"compact_replay: {name} holds a number above 65504, the largest that"
                " 16 bits can store. Scale the env's observations and states, or set"
                " compact_replay: false."
            )
    arrays["action_mask"] = np.packbits(arrays["action_mask"], axis=-1)
    return arrays


class Segment:
    """Arrays of fixed length that store episodes one after the other.

    An episode of L steps takes L + 1 rows. Its last row has an observation, but no
    action.

    Attributes:
        number: Unique number of the segment.
        rows: Capacity in rows.
        arrays: Arrays by the names of an episode's arrays.
        used: Number of used rows.
    """

    def __init__(
        self, like: Episode, number: int, size: int, flags: Flags | None
    ) -> None:
        """Allocates ``size`` bytes, or more if the episode ``like`` needs more."""
        self.number = number
        self._flags = flags
        self._num_actions = like.action_mask.shape[-1]
        kept = _kept(like, flags)
        row_bytes = sum(array[0].nbytes for array in kept.values())
        self.rows = max(len(like) + 1, size // row_bytes)
        # The operating system allocates a page of memory only when it is written to.
        self.arrays = {
            name: np.empty((self.rows, *array.shape[1:]), array.dtype)
            for name, array in kept.items()
        }
        self.used = 0

    def add(self, episode: Episode) -> int | None:
        """Appends a copy of an episode and returns its first row, or None if full."""
        first, steps = self.used, len(episode)
        if first + steps + 1 > self.rows:
            return None
        for name, array in _kept(episode, self._flags).items():
            rows = self.arrays[name][first : first + steps + 1]
            rows[: len(array)] = array
            rows[len(array) :] = 0
        self.used += steps + 1
        return first

    def take(self, name: str, rows: Any) -> np.ndarray:
        """Reads rows of an array in the learners' format.

        Without flags the result of a slice shares the segment's memory.

        Args:
            name: Name of an episode's array.
            rows: A slice, or indices of any shape.
        """
        array = self.arrays[name][rows]
        if self._flags is None:
            return array
        if name == "action_mask":
            return np.unpackbits(array, axis=-1, count=self._num_actions)
        if name not in self._flags:
            return array
        flag = self._flags[name]
        bits = self.arrays[f"{name}_flags"][rows]
        whole = np.empty((*array.shape[:-1], flag.size), np.float32)
        whole[..., ~flag] = array
        whole[..., flag] = np.unpackbits(bits, axis=-1, count=int(flag.sum()))
        return whole
