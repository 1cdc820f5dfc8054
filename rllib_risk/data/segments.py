"""How a replay keeps episodes: end to end in segments, and what is made smaller.

Letters as in :mod:`rllib_risk.data.episodes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rllib_risk.config.schema import ConfigError
from rllib_risk.data.episodes import Episode

STEP_ARRAYS = ("actions", "rewards", "risk_levels")
ROW_ARRAYS = ("obs", "state", "action_mask")

# Of observations [D] and states [S]: which numbers are kept in one bit.
Flags = dict[str, np.ndarray]


def flags_of(episode: Episode) -> Flags:
    """Which numbers of an episode's observations and states are all 0 or 1."""
    arrays = {name: getattr(episode, name) for name in ("obs", "state")}
    return {
        name: ((array == 0) | (array == 1)).all(axis=tuple(range(array.ndim - 1)))
        for name, array in arrays.items()
    }


def bytes_per_row(
    episode: Episode, compact: bool = False, flags: Flags | None = None
) -> int:
    """What a replay needs for a step of such an episode, and for its end.

    Args:
        episode: An episode.
        compact: As in :class:`~rllib_risk.data.replay.EpisodeReplay`.
        flags: What a compact one keeps in a bit; None: nothing, which is the most that
            it can need.
    """
    if compact and flags is None:
        flags = {name: np.zeros_like(f) for name, f in flags_of(episode).items()}
    kept = _kept(episode, flags if compact else None)
    return sum(array[0].nbytes for array in kept.values())


def _kept(episode: Episode, flags: Flags | None) -> dict[str, np.ndarray]:
    """An episode's arrays as they are kept.

    Args:
        episode: An episode.
        flags: What of observations and states takes one bit; all else takes 16, and
            legal actions one each. None: nothing is made smaller.

    Returns:
        Arrays by name.

    Raises:
        ConfigError: If 16 bits cannot hold a number.
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
                f"compact_replay: {name} holds a number beyond 65504, the greatest"
                " that it can keep. Scale what the env shows, or set it to false."
            )
    arrays["action_mask"] = np.packbits(arrays["action_mask"], axis=-1)
    return arrays


class Segment:
    """Episodes end to end, in arrays that are as long as there is room.

    An episode of L steps takes L + 1 rows; in its last one there is an observation, but
    no action.

    Attributes:
        number: Tells it from others.
        rows: For how many there is room.
        arrays: By the names of an episode's arrays.
        used: How many rows are taken.
    """

    def __init__(
        self, like: Episode, number: int, size: int, flags: Flags | None
    ) -> None:
        """Makes room for an episode and for as many of its kind as bytes allow."""
        self.number = number
        self._flags = flags
        self._num_actions = like.action_mask.shape[-1]
        kept = _kept(like, flags)
        row_bytes = sum(array[0].nbytes for array in kept.values())
        self.rows = max(len(like) + 1, size // row_bytes)
        # Pages of memory that nothing is written to are not taken.
        self.arrays = {
            name: np.empty((self.rows, *array.shape[1:]), array.dtype)
            for name, array in kept.items()
        }
        self.used = 0

    def add(self, episode: Episode) -> int | None:
        """Copies an episode to the end; its first row, or None if there is no room."""
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
        """Rows of an array as learners want it; without flags it shares memory.

        Args:
            name: Of an episode's array.
            rows: A slice, or numbers of any shape.
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
